"""Fuzz one target with atheris (libFuzzer): `python -m tests.fuzz.run TARGET [ARGUMENTS...]`.

scripts/fuzz calls it. Kernels check their bounds; they are not instrumented, the Python around them
is.
"""

import os
import random
import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / ".cache" / "numba-boundscheck"
os.environ["NUMBA_BOUNDSCHECK"] = "1"
os.environ["NUMBA_CACHE_DIR"] = str(KERNELS)

# numba reads its environment when it is imported.
import atheris  # type: ignore[import-untyped]  # noqa: E402

from flowray.kernel_cache import drop_stale  # noqa: E402

INSTRUMENTED = [
    *("flowray.ingest", "flowray.views", "flowray.maps", "flowray.primitives", "flowray.intervals"),
    *("flowray.wire", "flowray.rib"),
]
COMPILED = [
    *("flowray.hashing", "flowray.views.kernels", "flowray.wire.packets_kernels"),
    *("flowray.wire.frame_kernels", "flowray.wire.pcap_kernels"),
    *("flowray.wire.pcap_writer_kernels", "flowray.ingest.kernels", "flowray.wire.octets"),
    *("flowray.wire.flow.kernels", "flowray.wire.flow.frames", "flowray.wire.flow.link_kernels"),
    *("flowray.wire.flow.dissect_kernels", "flowray.wire.flow.sflow_kernels"),
    *("flowray.wire.flow.sflow_flow_kernels", "flowray.wire.flow.sflow_record_kernels"),
    *("flowray.ingest.join_kernels", "flowray.rib.attribute_values_kernels"),
    *("flowray.rib.lpm_kernels", "flowray.rib.next_hop_kernels", "flowray.rib.roa_kernels"),
    *("flowray.rib.rtr_kernels", "flowray.rib.table_kernels", "flowray.rib.prefetch"),
    *("flowray.wire.bgp.attribute_kernels", "flowray.wire.bgp.bmp_kernels"),
    *("flowray.wire.bgp.describe_kernels", "flowray.wire.bgp.intern_kernels"),
    *("flowray.wire.bgp.kernels", "flowray.wire.bgp.message_kernels"),
    *("flowray.wire.bgp.mrt_kernels", "flowray.wire.bgp.mrt_table_kernels"),
    *("flowray.wire.bgp.mrt_writer_kernels", "flowray.wire.bgp.nlri_kernels"),
    *("flowray.wire.bgp.path_id_kernels", "flowray.wire.bgp.update_kernels"),
    *("flowray.sinks.jsonl_kernels", "flowray.sinks.text_kernels", "flowray.views.prefetch"),
]
"""Modules that numba compiles: it reads their bytecode, which must be their own."""


MARKS = 4096


def marker() -> Callable[[object], None]:
    """Turns outcomes to coverage: each reaches one of many functions that do nothing."""
    names: dict[str, Callable[[], None]] = {}
    exec("\n".join(f"def mark{n}():\n    pass" for n in range(MARKS)), names)
    marks = [atheris.instrument_func(names[f"mark{n}"]) for n in range(MARKS)]
    return lambda outcome: marks[crc32(repr(outcome).encode()) % MARKS]()


def main() -> None:
    name = sys.argv.pop(1)
    drop_stale(KERNELS)
    with atheris.instrument_imports(include=INSTRUMENTED, exclude=COMPILED):
        from tests.fuzz import framing, outcomes, seeds, targets
    target = targets.TARGETS[name]
    outcomes.watch(marker())
    warnings.simplefilter("error")

    def run(data: bytes) -> None:
        target(data)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        random.seed(seed)
        if not data:
            return bytes(atheris.Mutate(data, most))
        return data[:1] + framing.mutate(data[1:], most - 1, seed, atheris.Mutate)

    # What takes long the first time is to compile kernels.
    for data in seeds.seeds()[name]:
        target(data)
    # libFuzzer runs itself again, through a shell, to merge.
    sys.argv[0] = shlex.join([sys.executable, "-m", "tests.fuzz.run", name])
    custom = {"custom_mutator": mutate} if name in targets.FRAMED else {}
    atheris.Setup(sys.argv, run, **custom)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
