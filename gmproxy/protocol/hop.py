"""A step on the way of a key. Apart from the compiled modules that give them: Cython 0.29 knows no NamedTuple."""

from typing import NamedTuple


class Hop(NamedTuple):
    """For operators (gmproxyctl route): what is done, by which server (its label), and why, or when."""

    step: str
    server: str
    reason: str
