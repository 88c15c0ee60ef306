"""A step on the route of a key. It is a module of its own since Cython 0.29 cannot compile a NamedTuple in the hot modules that use it."""

from typing import NamedTuple


class Hop(NamedTuple):
    """For operators (gmproxyctl route)."""

    step: str  # what is done
    server: str  # the label of the server that does it
    reason: str  # why, or when
