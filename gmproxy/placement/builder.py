"""The one door to key placement: `build` makes a `Placement`, which says where a key goes.

    placement = build(parse_servers("a:11211, b:11211"), "ketama", "md5", hash_tag="{}")
    placement.locate(b"user:{17}:name")      # 0 or 1, an index into the list of servers

Everything here is pure: same servers and settings, same answer, on every machine (but for ``random``).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from gmproxy.placement.distributions import DISTRIBUTIONS as _TABLE
from gmproxy.placement.distributions import Distribution, Member, Settings
from gmproxy.placement.hashes import HASHES
from gmproxy.placement.labels import LABELS, Hosts, parse_hosts, point_label
from gmproxy.placement.locators import HashTagLocator, Locator, SingleServer
from gmproxy.placement.profiles import PROFILES
from gmproxy.placement.server_spec import Server

T = TypeVar("T")

#: Distribution -> one sentence.
DISTRIBUTIONS = {name: distribution.sentence for name, distribution in _TABLE.items()}

DEFAULT_DISTRIBUTION = "magent"

#: Settings other than distribution, hash and hash tag -> one sentence. Empty or 0: the distribution's own.
SETTINGS = {
    "unhashed_prefix": "prefix of the keys, such as the namespace of a client library, that is not hashed",
    "label": "text that is hashed for a server without a name: " + ", ".join(LABELS) + "; if unset, that of the distribution",
    "points": "points of a server on the hash ring per unit of weight (perl-fast-ketama), or its labels (hashring); 0: that of the distribution",
    "point_hash": "hash function of the points on the hash ring, if it is not that of the keys (libmemcached-ketama)",
    "server_order": "order in which servers are placed: given, name (shorter first) or host (then port); if unset, that of the distribution",
    "hosts": "addresses of host names, for the labels of spymemcached: name=address, several separated by commas",
}


class Placement:
    """Where keys go.

    ``locate(key: bytes) -> int`` is an index into the list of servers given to `build`, dead ones included; ``locator`` is
    the object behind it (gmproxy.placement.locators.Locator), for callers in a hurry.
    """

    __slots__ = ("locate", "locator", "distribution", "hash_name", "_hash", "_prefix", "_tag")

    def __init__(self, ring: Locator, distribution: str, hash_name: str, prefix: bytes, tag: tuple[bytes, bytes] | None) -> None:
        self.distribution = distribution
        self.hash_name = hash_name
        self._hash = HASHES[hash_name]
        self._prefix = prefix
        self._tag = tag
        # The usual key is hashed whole: no need to pass through this object on each request.
        self.locator = HashTagLocator(ring, self.hashed_part) if prefix or tag else ring
        self.locate = self.locator.locate

    def hashed_part(self, key: bytes) -> bytes:
        """The part of ``key`` that decides: without the unhashed prefix, and what the hash tag encloses."""
        if self._prefix and key.startswith(self._prefix):
            key = key[len(self._prefix) :]
        if self._tag:
            start = key.find(self._tag[0]) + 1
            end = key.find(self._tag[1], start) if start else -1
            # Nothing between the two: the whole key counts, even if another pair follows.
            if end > start:
                return key[start:end]
        return key

    def hash(self, key: bytes) -> int:
        """The key's hash, to be shown; a distribution may look at part of it only."""
        return self._hash(self.hashed_part(key))

    def __repr__(self) -> str:
        return f"<Placement {self.distribution} of {self.hash_name}>"


def build(
    servers: Sequence[Server],
    distribution: str = "",
    hash: str = "",
    hash_tag: str | bytes = "",
    *,
    profile: str = "",
    live: Collection[int] | None = None,
    unhashed_prefix: str | bytes = "",
    label: str = "",
    points: int = 0,
    point_hash: str = "",
    server_order: str = "",
    hosts: str = "",
) -> Placement:
    """A `Placement` of keys on ``servers``, a list of `gmproxy.placement.server_spec.Server`.

    ``profile`` fills in what is left empty; without one the distribution is `DEFAULT_DISTRIBUTION`, and the hash the
    distribution's own.  ``live``: the indexes that take part, all by default; their weights and number alone shape the
    ring then, as in twemproxy after an ejection.  `SETTINGS` explains the others.

    Raises ValueError, with the known names where a name is unknown.
    """
    if profile:
        chosen_profile = _look_up("profile", profile, PROFILES)
        # A hash or setting of the profile fits its own distribution only.
        if distribution in ("", chosen_profile.distribution):
            distribution = chosen_profile.distribution
            hash = hash or chosen_profile.hash
            label = label or chosen_profile.settings.get("label", "")
            points = points or chosen_profile.settings.get("points", 0)
    distribution = distribution or DEFAULT_DISTRIBUTION
    chosen = _look_up("distribution", distribution, _TABLE)
    hash = hash or chosen.hash
    hash_key = _look_up("hash", hash, HASHES)
    if chosen.hashes and hash not in chosen.hashes:
        raise ValueError(f"distribution {distribution} takes no hash but {' or '.join(chosen.hashes)}, not {hash!r}")
    _check_settings(distribution, chosen, points=points, point_hash=point_hash)
    settings = Settings(points, point_hash, weighted=any(server.weight != 1 for server in servers))
    members = _members(servers, live, label or chosen.label, server_order or chosen.order, parse_hosts(hosts))
    if len(members) == 1:
        ring: Locator = SingleServer(members[0].index)
    else:
        ring = chosen.build(members, hash_key, settings)
    return Placement(ring, distribution, hash, _as_bytes(unhashed_prefix), _parse_tag(hash_tag))


def _look_up(kind: str, name: str, table: Mapping[str, T]) -> T:
    if name not in table:
        raise ValueError(f"unknown {kind} {name!r}; known: {', '.join(table)}")
    return table[name]


def _check_settings(distribution: str, chosen: Distribution, points: int, point_hash: str) -> None:
    for name, value in (("points", points), ("point_hash", point_hash)):
        if value and name not in chosen.settings:
            raise ValueError(f"distribution {distribution} has no setting {name}")
    if points < 0:
        raise ValueError(f"points must be positive, not {points}")
    if point_hash:
        _look_up("point_hash", point_hash, HASHES)


def _members(servers: Sequence[Server], live: Collection[int] | None, label_format: str, order: str, hosts: Hosts) -> list[Member]:
    """The servers that take part, as `Member`, in the order the distribution wants."""
    _look_up("label", label_format, LABELS)
    sort_key = _look_up("server_order", order, _SORT_KEYS)
    taking_part = [(i, server) for i, server in enumerate(servers) if live is None or i in live]
    if not taking_part:
        raise ValueError("no server is live" if servers else "no servers")
    members = [(server, Member(i, point_label(server, label_format, hosts), server.weight)) for i, server in taking_part]
    if sort_key:
        members.sort(key=lambda pair: sort_key(*pair))
    return [member for _, member in members]


# twemproxy compares names by length first, so server2 stands before server10.
_SORT_KEYS: dict[str, Callable[[Server, Member], Any] | None] = {
    "given": None,
    "name": lambda server, member: (len(member.label.encode()), member.label.encode()),
    "host": lambda server, member: (server.host.encode(), server.port),
}


def _parse_tag(text: str | bytes) -> tuple[bytes, bytes] | None:
    tag = _as_bytes(text)
    if tag and len(tag) != 2:
        raise ValueError(f"bad hash tag {tag.decode(errors='replace')!r}: expected two characters, like {{}}")
    return (tag[:1], tag[1:]) if tag else None


def _as_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
