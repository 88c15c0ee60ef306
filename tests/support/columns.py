"""Tests that read like a table: what the client sends, what the backend saw, what it says, what the client gets."""

from typing import NamedTuple

import pytest

from support.scripted import expect, steps_of


class Case(NamedTuple):
    """`says` is bytes, a step of support.scripted, or a list of both."""

    name: str
    sends: bytes
    saw: bytes
    says: object
    gets: bytes


def cases(*rows):
    """Decorates a test that has the argument `case`."""
    return pytest.mark.parametrize("case", [pytest.param(Case(*row), id=row[0].replace(" ", "-")) for row in rows])


def play(case, talk, backend):
    """Play `case` on the next connection that `backend` gets, and prove that `talk` is in step afterwards."""
    backend.play([expect(case.saw), *steps_of(case.says)])
    talk.expect(case.sends, case.gets)
    talk.in_step()
    backend.check()
