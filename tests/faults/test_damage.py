"""The relay damages what it should damage, and nothing else: otherwise the suite proves nothing."""

import random

import pytest
from support.talk import value

from faults import damage, values

ANSWER = value(b"some-key", values.compose(b"some-key", 17, 60)) + b"END\r\n"


@pytest.mark.parametrize("kind", damage.KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_changes_an_answer(kind):
    assert kind(ANSWER, random.Random(1)) != ANSWER


@pytest.mark.parametrize("kind", damage.KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("chunk", [b"", b"x", b"12345", ANSWER[:10], ANSWER[-7:], b"STORED\r\n", b"ERROR\r\n"])
def test_every_kind_takes_any_piece(kind, chunk):
    assert isinstance(kind(chunk, random.Random(1)), bytes)


def test_a_byte_of_a_value_is_seen_by_its_checksum_alone():
    damaged = damage.a_byte_of_a_value(ANSWER, random.Random(1))
    assert len(damaged) == len(ANSWER)
    data = damaged.split(b"\r\n")[1]
    assert values.read(data) is None


def test_some_pieces_are_damaged_and_some_are_not():
    hurt = damage.damages(random.Random(1))
    assert 0 < sum(hurt(ANSWER) == ANSWER for _ in range(1000)) < 1000
