"""From servers and settings to a Placement, which says which server has a key.

    placement = build(parse_servers("a:11211, b:11211"), "ketama", "md5", hash_tag="{}")
    placement.locate(b"user:{17}:name")      # 0 or 1: an index into the list of servers

The same servers and settings result in the same placement on every machine (except for the distribution `random`).
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

#: Name of a distribution -> its description.
DISTRIBUTIONS = {name: distribution.description for name, distribution in _TABLE.items()}

DEFAULT_DISTRIBUTION = "magent"

#: Name of a setting, other than distribution, hash and hash tag -> its description. Unset, "" or 0, it is that of the distribution.
SETTINGS = {
    "unhashed_prefix": "prefix of the keys, such as the namespace of a client library, that is not hashed",
    "label": "format of the text that is hashed for a server without a name: " + ", ".join(LABELS) + "; if unset, that of the distribution",
    "points": "only for perl-fast-ketama: points on the hash ring per unit of weight; for hashring and hash_ring: labels; 0: the default of the"
    " distribution",
    "point_hash": "only for libmemcached-ketama and -consistent: hash function of the points on the hash ring, if it is not that of the keys",
    "server_order": "order of the servers for the placement: given (as configured), name (shorter names first) or host; if unset, that of the "
    "distribution",
    "hosts": "addresses of the servers' host names, which spymemcached also hashes: name=address, several separated by commas",
}


class Placement:
    """Which server has a key.

    locate        function of a key (bytes): the index of its server in the list given to `build`, in which those that are not live count, too
    locator       the Locator of which it is a method: the compiled build calls it as a C function
    distribution  its name
    hash_name     the name of the key hash
    """

    __slots__ = ("locate", "locator", "distribution", "hash_name", "_hash", "_prefix", "_tag")

    def __init__(self, ring: Locator, distribution: str, hash_name: str, prefix: bytes, tag: tuple[bytes, bytes] | None) -> None:
        self.distribution = distribution
        self.hash_name = hash_name
        self._hash = HASHES[hash_name]
        self._prefix = prefix
        self._tag = tag
        # Without prefix and hash tag the whole key is hashed: then no request calls this object.
        self.locator = HashTagLocator(ring, self.hashed_part) if prefix or tag else ring
        self.locate = self.locator.locate

    def hashed_part(self, key: bytes) -> bytes:
        """The part of `key` that is hashed: without the unhashed prefix, and only what the hash tag encloses."""
        if self._prefix and key.startswith(self._prefix):
            key = key[len(self._prefix) :]
        if self._tag:
            start = key.find(self._tag[0]) + 1
            end = key.find(self._tag[1], start) if start else -1
            # As in twemproxy: if nothing is between the two, the whole key is hashed, even if another pair follows.
            if end > start:
                return key[start:end]
        return key

    def hash(self, key: bytes) -> int:
        """The hash of `key`, to be shown; a distribution may use a part of it only."""
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
    """The Placement of keys on `servers`.

    `profile`  sets what is "" or 0 here. Without one, the distribution is DEFAULT_DISTRIBUTION and the hash that of the distribution
    `live`     indexes of the servers that may have keys; None: all. The ring is built as if there were no others, as in twemproxy after an
               ejection
    The other arguments are described in SETTINGS and docs/placement.md.

    Raises ValueError for unknown names, for settings that cannot be combined, and for weights that the distribution does not support.
    """
    if profile:
        chosen_profile = _look_up("profile", profile, PROFILES)
        # The profile's hash and settings are for its own distribution only.
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
        raise ValueError(f"hash {hash!r} cannot be used with distribution {distribution}: expected {' or '.join(chosen.hashes)}")
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
        raise ValueError(f"unknown {kind} {name!r}: expected one of {', '.join(table)}")
    return table[name]


def _check_settings(distribution: str, chosen: Distribution, points: int, point_hash: str) -> None:
    for name, value in (("points", points), ("point_hash", point_hash)):
        if value and name not in chosen.settings:
            raise ValueError(f"{name} cannot be used with distribution {distribution}")
    if points < 0:
        raise ValueError(f"points must be positive, not {points}")
    if point_hash:
        _look_up("point_hash", point_hash, HASHES)


def _members(servers: Sequence[Server], live: Collection[int] | None, label_format: str, order: str, hosts: Hosts) -> list[Member]:
    """The live servers, in the order of the distribution."""
    _look_up("label", label_format, LABELS)
    sort_key = _look_up("server_order", order, _SORT_KEYS)
    live_servers = [(index, server) for index, server in enumerate(servers) if live is None or index in live]
    if not live_servers:
        raise ValueError("no server is live" if servers else "no servers")
    members = [(server, Member(index, point_label(server, label_format, hosts), server.weight)) for index, server in live_servers]
    if sort_key:
        members.sort(key=lambda pair: sort_key(*pair))
    return [member for _, member in members]


#: `server_order` -> key for list.sort. twemproxy compares the lengths of names first: server2 comes before server10.
_SORT_KEYS: dict[str, Callable[[Server, Member], Any] | None] = {
    "given": None,
    "name": lambda server, member: (len(member.label.encode()), member.label.encode()),
    "host": lambda server, member: (server.host.encode(), server.port),
}


def _parse_tag(text: str | bytes) -> tuple[bytes, bytes] | None:
    tag = _as_bytes(text)
    if tag and len(tag) != 2:
        raise ValueError(f"bad hash tag {tag.decode(errors='replace')!r}: expected two characters, such as {{}}")
    return (tag[:1], tag[1:]) if tag else None


def _as_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
