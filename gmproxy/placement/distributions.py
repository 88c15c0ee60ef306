"""The distributions of proxies and client libraries: how many points each server has on the ring, from which text, and in which order.

Each is a function of (members, hash_key, settings) that returns a Locator (locators.py):

    members   the live servers, in the order in which the program places them
    hash_key  the key hash: a function of hashes.py
    settings  a Settings

The number of points is computed as each program computes it, including rounding: of 25 equal servers, each has 39 labels in libmemcached
instead of 40, because 1/25 is a little too small in single precision.
"""

from collections.abc import Callable, Sequence
from hashlib import sha1
from math import floor, trunc
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from gmproxy.placement import locators
from gmproxy.placement.digests import md5_words, sha1_words
from gmproxy.placement.hashes import HASHES
from gmproxy.placement.locators import Buckets, Locator, Ring

#: Maximum number of points, or entries of a list of servers: so a mistyped weight does not use all memory. As a list these take 32 MB.
MAX_ENTRIES = 4_000_000


#: The hash of a key.
HashKey = Callable[[bytes], int]


class Member(NamedTuple):
    """A live server."""

    index: int  # type: ignore[assignment]  # in the operator's list; hides tuple.index
    label: str  # the text from which its points are computed (labels.py)
    weight: float


class Settings(NamedTuple):
    """The settings of a distribution, other than the key hash; "" or 0: as in the program."""

    points: int = 0
    point_hash: str = ""
    weighted: bool = False  # computed: a server, live or not, has a weight other than 1


Members = Sequence[Member]

#: A function that computes the points of a label.
Words = Callable[[bytes], Sequence[int]]


# -- modulo ------------------------------------------------------------------------------------------------------------


def modulo(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    return Buckets([member.index for member in members], hash_key)


def buckets(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    return Buckets(_weighted(members), hash_key)


def buckets_absolute(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    return locators.AbsoluteBuckets(_weighted(members), hash_key)


def buckets_folded(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    return locators.FoldedBuckets(_weighted(members), hash_key)


def random_owner(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    return locators.RandomOwner([member.index for member in members])


def perl_fast(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    """Cache::Memcached::Fast without ketama: servers have parts of the range 0..0xffffffff in proportion to their weights.

    The parts of the earlier servers become smaller with each server that is added, and their boundaries are cut to whole numbers each time.
    """
    boundaries: list[int] = []
    total = 0.0
    for member in members:
        total += member.weight
        boundaries = [trunc(point - point * (member.weight / total)) for point in boundaries]
        boundaries.append(0xFFFFFFFF)
    count = trunc(total + 0.5)
    if count < 1:
        raise ValueError("the weights are too small: their sum must be at least 0.5")
    _check_entries(count)
    shares = Ring(boundaries, [member.index for member in members], hash_key)
    return Buckets([shares.at(trunc(b / total * 0xFFFFFFFF + 0.5) + 1) for b in range(count)], hash_key)


def _weighted(members: Members) -> list[int]:
    """The index of each server, in order, repeated as many times as its weight."""
    for member in members:
        if member.weight != int(member.weight):
            raise ValueError(f"weight {member.weight} of server {member.label!r} must be a whole number with this distribution")
    _check_entries(sum(member.weight for member in members))
    return [member.index for member in members for _ in range(int(member.weight))]


# -- rings -------------------------------------------------------------------------------------------------------------


def continuum(members: Members, labels_each: Sequence[int], words: Words, separator: str = "-") -> tuple[list[int], list[int]]:
    """(points, their owners): those of `words` for LABEL-0, LABEL-1, ... of each server, as many labels as `labels_each` has for it."""
    points: list[int] = []
    owners: list[int] = []
    _check_entries(sum(labels_each))
    for member, count in zip(members, labels_each):
        prefix = (member.label + separator).encode()
        for number in range(count):
            label_points = words(prefix + b"%d" % number)
            points += label_points
            owners += (member.index,) * len(label_points)
    return points, owners


def single(hash_label: HashKey) -> Words:
    """One point for each label: its hash."""
    return lambda label: (hash_label(label),)


def equal(members: Members, count: int) -> list[int]:
    return [count] * len(members)


_float32 = Struct("<f")


def f32(x: float) -> float:
    """`x` rounded to IEEE single precision."""
    rounded: float = _float32.unpack(_float32.pack(x))[0]
    return rounded


def labels_f32(members: Members, average: int) -> list[int]:
    """The number of labels of each server, in proportion to its weight and `average` on average, computed in C's single precision.

    libmemcached and twemproxy compute weight / total * 160 / 4 * n + 1e-10, of which 160 / 4 is exactly 40, and 1e-10 is lost in the
    conversion to float.
    """
    total = f32(sum(member.weight for member in members))
    return [floor(f32(f32(f32(f32(m.weight) / total) * average) * len(members))) for m in members]


def labels_f64(members: Members, average: int) -> list[int]:
    """The same in double precision, multiplied before it is divided: dalli, com.danga and com.whalin."""
    total = sum(member.weight for member in members)
    return [floor(len(members) * average * member.weight / total) for member in members]


def ketama(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    return Ring(*continuum(members, labels_f32(members, 40), md5_words), hash_key)


def ketama_unweighted(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    hash_of_points = HASHES[settings.point_hash] if settings.point_hash else hash_key
    return Ring(*continuum(members, equal(members, 100), single(hash_of_points)), hash_key)


def libmemcached_consistent(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    # libmemcached uses weights as soon as a server with a weight above 1 is added, and from then on.
    return (ketama if settings.weighted else ketama_unweighted)(members, hash_key, settings)


def libketama(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    # ketama.c: pct is a float, the rest of the product a double.
    total = f32(sum(member.weight for member in members))
    labels_each = [floor(f32(f32(f32(m.weight) / total) * 40.0 * len(members))) for m in members]
    return Ring(*continuum(members, labels_each, md5_words), hash_key)


def magent_ketama(members: Members, hash_key: HashKey, settings: Settings, mask: int = 0xFFFFFFFF) -> Locator:
    points, owners = continuum(members, labels_f32(members, 500), md5_words)
    return locators.MagentRing(points, owners, hash_key, mask, _weighted(members))


def magent_ketama_06(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    # 0.6 keeps the hash in a char: all points are above it, so the owner of the lowest point has nearly all keys.
    return magent_ketama(members, hash_key, settings, mask=0xFF)


PHP_SLOTS = 1024
PHP_SLOT_STEP = 0xFFFFFFFF // PHP_SLOTS


def php_memcache_consistent(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    labels_each = [trunc(160 * member.weight) for member in members]
    ring = Ring(*continuum(members, labels_each, single(hash_key)), hash_key)
    return Buckets([ring.at(slot * PHP_SLOT_STEP) for slot in range(PHP_SLOTS)], hash_key)


def perl_fast_ketama(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    """Cache::Memcached::Fast with ketama_points: each point is the CRC-32 of the label and the previous point."""
    labels_each = [trunc((settings.points or 150) * member.weight + 0.5) for member in members]
    _check_entries(sum(labels_each))
    points: list[int] = []
    owners: list[int] = []
    for member, count in zip(members, labels_each):
        base = crc32(member.label.encode())
        point = 0
        for _ in range(count):
            point = crc32(point.to_bytes(4, "little"), base)
            points.append(point)
        owners += [member.index] * count
    return Ring(points, owners, hash_key)


def dalli(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    return locators.RingBelow(*continuum(members, labels_f64(members, 160), _sha1_head, ":"), hash_key)


def _sha1_head(label: bytes) -> Sequence[int]:
    """One point for each label: the first 32 bits of its SHA-1."""
    return (int.from_bytes(sha1(label).digest()[:4], "big"),)


def hashring(members: Members, hash_key: HashKey, settings: Settings, words_each: int = 4) -> Locator:
    digest_words = sha1_words if hash_key is HASHES["sha1"] else md5_words
    # hashring multiplies in this order, in doubles: of 7 or 14 equal servers, each has 39 labels.
    total = sum(member.weight for member in members)
    average = settings.points or 40
    labels_each = [floor(member.weight / total * average * len(members)) for member in members]
    return Ring(*continuum(members, labels_each, lambda label: digest_words(label)[:words_each]), hash_key)


def hash_ring(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    return hashring(members, hash_key, settings, words_each=3)


def spymemcached_ketama(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    if settings.weighted:
        points, owners = continuum(members, labels_f32(members, 40), md5_words)
    elif hash_key is HASHES["md5"]:
        points, owners = continuum(members, equal(members, 40), md5_words)
    else:
        points, owners = continuum(members, equal(members, 160), single(hash_key))
    # In its map of points, a later one replaces an equal one; in a Ring the first is used.
    return Ring(points[::-1], owners[::-1], hash_key)


def whalin_consistent(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    return Ring(*continuum(members, labels_f64(members, 40), md5_words), hash_key)


def rendezvous(members: Members, hash_key: HashKey, settings: Settings, quote_key: bool = False) -> Locator:
    return locators.Rendezvous([member.label for member in members], [member.index for member in members], quote_key)


def rendezvous_quoted(members: Members, hash_key: HashKey, settings: Settings) -> Locator:
    return rendezvous(members, hash_key, settings, quote_key=True)


def _check_entries(count: float) -> None:
    if count > MAX_ENTRIES:
        raise ValueError(f"the weights need {count} entries, more than the maximum of {MAX_ENTRIES}: use smaller weights")


# -- the table ---------------------------------------------------------------------------------------------------------


class Distribution(NamedTuple):
    """A way to place keys."""

    description: str
    build: Callable[..., Locator]  # the function above
    hash: str  # default key hash
    label: str = "short"  # default format of the labels (labels.py)
    order: str = "given"  # default server_order: "given", "name" (twemproxy) or "host" (libmemcached's OPT_SORT_HOSTS)
    settings: tuple[str, ...] = ()  # names of the fields of Settings that it uses
    hashes: tuple[str, ...] = ()  # the only key hashes with which it can be used; (): any


DISTRIBUTIONS = {
    "magent": Distribution("magent 0.6 without -k: hash modulo the number of servers, each repeated by its weight", buckets, "djb"),
    "magent-ketama": Distribution(
        "magent forks in which -k works: 500 labels per server, all 32 bits of the hash",
        magent_ketama,
        "md5",
        label="dash",
    ),
    "magent-ketama-0.6": Distribution(
        "magent 0.6 with -k: 8 bits of the hash are used, one server has nearly all keys",
        magent_ketama_06,
        "md5",
        label="dash",
    ),
    "ketama": Distribution(
        "twemproxy's ketama: servers sorted by name, 40 labels of 4 MD5 points per server, weighted",
        ketama,
        "fnv1a_64",
        label="twemproxy",
        order="name",
    ),
    "modula": Distribution(
        "twemproxy's modula: servers sorted by name, each repeated by its weight, hash modulo their number",
        buckets,
        "fnv1a_64",
        label="twemproxy",
        order="name",
    ),
    "random": Distribution("twemproxy's random: any server, whatever the key", random_owner, "fnv1a_64"),
    "modulo": Distribution("hash modulo the number of servers in the order given, weights ignored", modulo, "crc32"),
    "buckets": Distribution("as modulo, with each server repeated by its weight", buckets, "crc32"),
    "buckets-absolute": Distribution(
        "as buckets, but the sign of a negative remainder is dropped (com.danga 1.6 and later)", buckets_absolute, "java_signed"
    ),
    "buckets-folded": Distribution(
        "as buckets, by bits 16 to 30 of the hash, of which 0 becomes 1 (PECL memcache)", buckets_folded, "crc32a"
    ),
    "libmemcached-consistent": Distribution(
        "libmemcached's CONSISTENT or KETAMA: weighted if any weight is above 1",
        libmemcached_consistent,
        "one_at_a_time",
        settings=("point_hash",),
    ),
    "libmemcached-ketama": Distribution(
        "libmemcached's KETAMA: 100 points per server by the key hash, weights ignored",
        ketama_unweighted,
        "one_at_a_time",
        settings=("point_hash",),
    ),
    "libmemcached-ketama-weighted": Distribution(
        "libmemcached's KETAMA_WEIGHTED or LIBKETAMA_COMPATIBLE: 40 labels of 4 MD5 points per server, weighted", ketama, "md5"
    ),
    "libketama": Distribution(
        "the original ketama library: as libmemcached-ketama-weighted, but the label always has the port",
        libketama,
        "md5",
        label="full",
    ),
    "php-memcache-consistent": Distribution(
        "PECL memcache's consistent strategy: 1024 slots on a ring of 160 points per server and unit of weight",
        php_memcache_consistent,
        "crc32a",
        label="full",
    ),
    "perl-fast": Distribution("Cache::Memcached::Fast without ketama_points: weights may be fractions", perl_fast, "crc32"),
    "perl-fast-ketama": Distribution(
        "Cache::Memcached::Fast with ketama_points (`points`, default 150): each point is computed from the previous one by CRC-32",
        perl_fast_ketama,
        "crc32a",
        label="zero",
        settings=("points",),
    ),
    "dalli": Distribution(
        "dalli: 160 SHA-1 points per server; a key belongs to the last point at or below its hash", dalli, "crc32a", label="full"
    ),
    "hashring": Distribution(
        "npm memcached with hashring: labels (`points`, default 40) of 4 MD5 or SHA-1 points",
        hashring,
        "md5",
        settings=("points",),
        hashes=("md5", "sha1"),
    ),
    "hash_ring": Distribution(
        "npm memcached with compatibility hash_ring: 3 points per label, which always has the port",
        hash_ring,
        "md5",
        label="full",
        settings=("points",),
        hashes=("md5", "sha1"),
    ),
    "spymemcached-ketama": Distribution(
        "spymemcached's CONSISTENT locator: 160 points per server, weighted if any weight is not 1",
        spymemcached_ketama,
        "md5",
        label="spymemcached",
    ),
    "whalin-consistent": Distribution(
        "com.danga and com.whalin CONSISTENT_HASH: 40 labels of 4 MD5 points per server, weighted in double precision",
        whalin_consistent,
        "md5",
        label="full",
    ),
    "rendezvous": Distribution(
        "pymemcache's HashClient: the server with the highest MurmurHash3 of `server-key`",
        rendezvous,
        "murmur3_32",
        label="full",
        hashes=("murmur3_32",),
    ),
    "rendezvous-quoted": Distribution(
        "pymemcache's HashClient with keys that the application passes as bytes, which it hashes as b'key'",
        rendezvous_quoted,
        "murmur3_32",
        label="full",
        hashes=("murmur3_32",),
    ),
}
