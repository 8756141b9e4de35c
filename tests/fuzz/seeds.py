"""Makes the first inputs of each target with our own encoders.

`python -m tests.fuzz.seeds DIR` writes DIR/<target>/*.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flowray.generate import default_exporters, traffic
from flowray.generate import encode as e
from flowray.wire.pcap import PcapWriter
from tests.fuzz.framing import Datagram, pack
from tests.fuzz.route_seeds import route_seeds
from tests.wire.flow import frames as f

OPTION_FIELDS = (
    (145, 2), (302, 8), (305, 4), (306, 4), (309, 4), (310, 4), (10, 4), (82, 16), (234, 4),
    (236, 16), (90, 8), (95, 4), (96, 12), (160, 8), (34, 4), (48, 2), (50, 4),
)  # fmt: skip
FLOW_FIELDS = (
    (8, 4), (12, 4), (27, 16), (28, 16), (7, 2), (11, 2), (4, 1), (6, 1), (5, 1), (1, 4), (2, 4),
    (10, 4), (14, 4), (22, 4), (21, 4), (61, 1), (234, 4), (235, 4), (48, 2), (95, 4), (70, 3),
    (71, 3), (9, 1), (13, 1),
)  # fmt: skip


def _fields(plain: tuple[tuple[int, int], ...]) -> tuple[e.FieldSpec, ...]:
    return tuple((element, length, 0) for element, length in plain)


def _generated() -> dict[str, list[Datagram]]:
    """The first datagrams of each kind of exporter, the small ones."""
    specs = default_exporters()
    found: dict[str, list[Datagram]] = {spec.kind: [] for spec in specs}
    for _, index, payloads in traffic(1, specs, rate=40.0, seconds=3):
        kept = found[specs[index].kind]
        kept += [Datagram(p, index, 3) for p in payloads if len(p) < 1200][: 5 - len(kept)]
    return found


def _ipfix(*sets: bytes, sequence: int = 0) -> bytes:
    return e.ipfix_message(sets, export_time=10_000_000, sequence=sequence, domain=7)


def _message_of(fields: tuple[e.FieldSpec, ...], records: bytes, scopes: int = 0) -> list[Datagram]:
    template = e.TemplateSpec(256, fields, scopes)
    announce = e.ipfix_options_template_set if scopes else e.ipfix_template_set
    data = e.flow_set(256, records)
    # Held, told, decoded; withdrawn; held again.
    return [
        Datagram(_ipfix(data)),
        Datagram(_ipfix(announce(template), data), 0, 1),
        Datagram(_ipfix(e.ipfix_withdrawal_set(256, options=bool(scopes)), data, sequence=1), 0, 5),
    ]


def _flows() -> Iterator[list[Datagram]]:
    generated = _generated()
    yield from (v for kind, v in generated.items() if not kind.startswith("sflow"))
    flow = _fields(FLOW_FIELDS)
    size = sum(length for _, length, _ in flow)
    yield _message_of(flow, bytes(range(1, size + 1)) * 3)
    yield _message_of((*flow, (82, 65535, 0), (323, 8, 0)), (bytes(size) + b"\3abc" + bytes(8)) * 2)
    biflow = ((22, 4, 0), (21, 4, 0), (160, 8, 0), (1, 4, 29305), (1, 4, 0))
    yield _message_of(biflow, bytes(range(72)))
    frame = b"\x0e" + bytes(12) + b"\x08\0"
    yield _message_of(((315, 65535, 0), (104, 65535, 0)), frame + b"\x03abc")
    for scopes in (1, 2):
        options = _fields(OPTION_FIELDS)
        yield _message_of(options, bytes(range(sum(f[1] for f in options))), scopes)
    v9 = e.TemplateSpec(300, ((1, 4, 0), (34, 4, 0), (48, 1, 0)), 1)
    sets = [e.v9_options_template_set(v9), e.flow_set(300, bytes(range(9)))]
    header = {"count": 2, "uptime_ms": 1000, "unix_secs": 10_000_000, "sequence": 1, "source_id": 3}
    yield [Datagram(e.v9_message(sets, **header))]


def _samples() -> Iterator[list[Datagram]]:
    yield from (v for kind, v in _generated().items() if kind.startswith("sflow"))


def _template_sets() -> Iterator[bytes]:
    flow, options = e.TemplateSpec(256, _fields(FLOW_FIELDS)), _fields(OPTION_FIELDS)
    yield b"\0" + e.v9_template_set(flow)[4:]
    named = e.TemplateSpec(257, ((1, 4, 29305), (82, 65535, 0)))
    yield b"\1" + e.ipfix_template_set(flow, named)[4:]
    yield b"\2" + e.v9_options_template_set(e.TemplateSpec(258, options, 1))[4:]
    yield b"\3" + e.ipfix_options_template_set(e.TemplateSpec(258, options, 2))[4:]
    yield b"\1" + e.ipfix_withdrawal_set(256)[4:]


def _option_records() -> Iterator[bytes]:
    for n, (element, length) in enumerate(OPTION_FIELDS):
        fields = _fields(((145, 2), (element, length), OPTION_FIELDS[(n + 1) % len(OPTION_FIELDS)]))
        template = e.ipfix_options_template_set(e.TemplateSpec(258, fields, 1))[4:]
        records = bytes(range(1, 1 + sum(f[1] for f in fields)))
        yield b"\1" + len(template).to_bytes(2) + template + records


def _frames() -> Iterator[bytes]:
    inner = f.ipv4(6, f.tcp(80, 1234))
    yield b"\0\1" + f.ethernet(0x0800, inner)
    yield b"\0\1" + f.ethernet(0x8100, f.vlan(0x86DD, f.ipv6(17, f.udp(53, 53)), 7))
    yield b"\0\1" + f.ethernet(0x0800, f.ipv4(17, f.vxlan(5, f.ethernet(0x0800, inner))))
    yield b"\0\1" + f.ethernet(0x8847, f.mpls([16, 17], inner))
    yield b"\2\1" + f.ipv4(47, f.gre(0x0800, inner))
    yield b"\3\1" + f.ipv6(0, f.extension(44, f.fragment_header(17, f.udp(1, 2), 0)))


def _captures() -> Iterator[bytes]:
    payloads = [d.payload for d in _generated()["v5"]][:2] or [b"\0\5"]
    with tempfile.TemporaryDirectory() as folder:
        for ethernet in (True, False):
            path = Path(folder) / "seed.pcap"
            with PcapWriter(path, ethernet=ethernet) as writer:
                writer.write_udp("192.0.2.1", 9, "192.0.2.2", 2055, payloads, 10**18)
            yield path.read_bytes()
    section = b"\x0a\x0d\x0d\x0a" + b"\x1c\0\0\0" + b"\x4d\x3c\x2b\x1a" + b"\1\0\0\0" + b"\xff" * 8
    interface = b"\1\0\0\0" + b"\x14\0\0\0" + b"\x65\0\0\0" + b"\0\0\4\0"
    ip = bytes.fromhex("4500001e000000004011000001020304050607080009080700 0a0000")
    body = bytes(12) + (len(ip) + 2).to_bytes(4, "little") * 2 + ip + b"\0\5"
    body += bytes(-len(body) % 4)
    size = (12 + len(body)).to_bytes(4, "little")
    yield section + b"\x1c\0\0\0" + interface + b"\x14\0\0\0" + b"\6\0\0\0" + size + body + size


FILTERS = (
    "src_host in (10.0.0.0/8, 2001:db8::/32) and not dst_port = 53",
    "proto = tcp and (tcpflags has syn or bytes >= 1000)",
    "label = 'a\"b\\n' or in_iface in (1-5, 9)",
    "src_mac = 00:11:22:33:44:55 and timestamp_start > 2024-01-01T00:00:00Z",
    "fwd_status = dropped or sampling_direction = ingress or tos != 0x20",
)
MAPS = (
    b"\0ip=192.0.2.0/24 set_label=nkey%a,pkey%b\nset_label='two words' ip=::/0\n! c\n",
    b"\1ip=192.0.2.1 sampling_rate=1000\nip=2001:db8::/32 sampling_rate=5\n",
    (
        b"\2name=top field_type=29305:12 len=16 semantics=ip\n"
        b"name=a field_type=1 len=4 semantics=u_int\nname=b field_type=82 len=vlen semantics=str\n"
    ),
)


def seeds() -> dict[str, list[bytes]]:
    """First inputs by target."""
    return {
        "netflow": [bytes([n % 4]) + pack(d) for n, d in enumerate(_flows())],
        "sflow": [bytes([n % 4]) + pack(d) for n, d in enumerate(_samples())],
        "dissect": list(_frames()),
        "template": list(_template_sets()),
        "options": list(_option_records()),
        "pcap": list(_captures()),
        "filter": [text.encode() for text in FILTERS],
        "map": list(MAPS),
        **route_seeds(),
    }


def write(folder: Path) -> None:
    """Write all seeds; files that are there stay."""
    for target, inputs in seeds().items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for n, data in enumerate(inputs):
            (folder / target / f"seed-{n:02}").write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
