"""The kept corpus and a few thousand mutations of it through every target, in this process."""

import random
from pathlib import Path

import pytest

from tests.fuzz import seeds
from tests.fuzz.framing import Datagram, mutate, pack, scatter, unpack
from tests.fuzz.targets import FRAMED, TARGETS

CORPUS = Path(__file__).parent / "corpus"
MUTATIONS = {
    **dict.fromkeys(("netflow", "sflow", "bgp", "bmp"), 150),
    **dict.fromkeys(("mrt", "nlri"), 300),
}
"""Of targets that run a whole collector; the others are quick."""


def kept(target: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]


@pytest.mark.parametrize("target", TARGETS)
def test_corpus(target: str) -> None:
    inputs = kept(target)
    assert inputs
    for data in inputs:
        TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_seeds(target: str) -> None:
    for data in seeds.seeds()[target]:
        TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_mutations(target: str) -> None:
    inputs = kept(target)
    random.seed(target)
    for n in range(MUTATIONS.get(target, 2000)):
        data = random.choice(inputs)
        for _ in range(random.choice((1, 1, 3))):
            if target in FRAMED:
                data = data[:1] + mutate(data[1:], 8192, random.randrange(1 << 32))
            else:
                data = scatter(data, 8192)
        try:
            TARGETS[target](data)
        except Exception as error:
            error.add_note(f"mutation {n} of {target}: {data.hex()}")
            raise


def test_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.glob("*/*")) < 200_000


def test_framing() -> None:
    datagrams = [Datagram(b"abc", 1, 2), Datagram(b"", 0, 0), Datagram(bytes(300), 4, 255)]
    assert unpack(pack(datagrams)) == datagrams
    assert unpack(pack(datagrams)[:-1])[-1].payload == bytes(299)
    assert unpack(b"\0\1") == []
