"""Profiles: how a proxy or client library places keys, under one name.

A profile stands for a distribution, a key hash and settings. Each can be overridden by an option of its own, for an application
that uses its library with another hash or a namespace; docs/placement.md lists these options.
"""

from typing import Any, NamedTuple


class Profile(NamedTuple):
    description: str  # for --list-profiles
    distribution: str  # a name in distributions.DISTRIBUTIONS
    hash: str  # a name in hashes.HASHES
    settings: dict[str, Any] = {}  # arguments of builder.build


PROFILES = {
    # proxies
    "magent": Profile("magent 0.6 without -k", "magent", "djb"),
    "magent-ketama": Profile("magent forks in which -k (ketama) works", "magent-ketama", "md5"),
    "magent-ketama-0.6": Profile("magent 0.6 with -k: one server has nearly all keys", "magent-ketama-0.6", "md5"),
    "twemproxy": Profile("twemproxy's default: ketama, fnv1a_64", "ketama", "fnv1a_64"),
    "nodeproxy": Profile("nodeproxy, including its arithmetic errors", "modulo", "nodeproxy"),
    "java-hashcode": Profile("String.hashCode and floorMod, which nodeproxy was meant to use", "modulo", "java_signed"),
    # libmemcached and the clients built on it
    "libmemcached": Profile("libmemcached's default", "modulo", "one_at_a_time"),
    "libmemcached-consistent": Profile("libmemcached with DISTRIBUTION consistent or KETAMA", "libmemcached-consistent", "one_at_a_time"),
    "libmemcached-ketama-weighted": Profile("libmemcached with KETAMA_WEIGHTED", "libmemcached-ketama-weighted", "md5"),
    "libmemcached-ketama-spy": Profile("libmemcached with KETAMA_SPY", "libmemcached-consistent", "md5", {"label": "slash"}),
    "libketama": Profile("the original ketama library", "libketama", "md5"),
    "pylibmc": Profile("pylibmc's default", "modulo", "one_at_a_time"),
    "pylibmc-ketama": Profile("pylibmc with ketama or distribution consistent", "libmemcached-consistent", "one_at_a_time"),
    "pylibmc-ketama-weighted": Profile("pylibmc with ketama_weighted", "libmemcached-ketama-weighted", "md5"),
    "php-memcached": Profile("PHP Memcached's default", "modulo", "one_at_a_time"),
    "php-memcached-consistent": Profile("PHP Memcached with DISTRIBUTION_CONSISTENT", "libmemcached-consistent", "one_at_a_time"),
    "php-memcached-libketama": Profile("PHP Memcached with OPT_LIBKETAMA_COMPATIBLE", "libmemcached-ketama-weighted", "md5"),
    # PECL memcache
    "php-memcache": Profile("PECL memcache's default: hash_strategy consistent, crc32", "php-memcache-consistent", "crc32a"),
    "php-memcache-fnv": Profile("PECL memcache with hash_function fnv", "php-memcache-consistent", "fnv1a_32"),
    "php-memcache-standard": Profile("PECL memcache with hash_strategy standard", "buckets-folded", "crc32a"),
    "php-memcache-standard-fnv": Profile("PECL memcache with hash_strategy standard, hash_function fnv", "buckets-folded", "fnv1a_32"),
    # Python
    "python-memcached": Profile("python-memcached from 1.60 on", "buckets", "crc32"),
    "python-memcached-1.59": Profile("python-memcached up to 1.59", "buckets-folded", "crc32a"),
    "pymemcache": Profile("pymemcache's HashClient with text keys", "rendezvous", "murmur3_32"),
    "pymemcache-bytes": Profile("pymemcache's HashClient with bytes keys", "rendezvous-quoted", "murmur3_32"),
    # Perl
    "perl-cache-memcached": Profile("Cache::Memcached", "buckets", "crc32"),
    "perl-cache-memcached-fast": Profile("Cache::Memcached::Fast without ketama_points", "perl-fast", "crc32"),
    "perl-cache-memcached-fast-ketama": Profile(
        "Cache::Memcached::Fast with ketama_points 150", "perl-fast-ketama", "crc32a", {"points": 150}
    ),
    # Ruby, Node
    "dalli": Profile("dalli's default", "dalli", "crc32a"),
    "node-memcached": Profile("npm memcached with hashring", "hashring", "md5"),
    "node-memcached-hash_ring": Profile("npm memcached with compatibility hash_ring", "hash_ring", "md5"),
    # Java
    "spymemcached": Profile("spymemcached's default: array modulo, native hash", "modulo", "java"),
    "spymemcached-ketama": Profile("spymemcached's KetamaConnectionFactory", "spymemcached-ketama", "md5"),
    "spymemcached-ketama-libmemcached": Profile(
        "spymemcached's KetamaConnectionFactory with node key format LIBMEMCACHED",
        "spymemcached-ketama",
        "md5",
        {"label": "spymemcached-short"},
    ),
    "whalin-1.3": Profile("com.danga 1.3: NATIVE_HASH", "buckets", "java_signed"),
    "whalin-1.3-old-compat": Profile("com.danga 1.3: OLD_COMPAT_HASH", "buckets", "whalin_old"),
    "whalin-1.3-new-compat": Profile("com.danga 1.3: NEW_COMPAT_HASH", "buckets", "crc32"),
    "whalin-1.6": Profile("com.danga 1.6: NATIVE_HASH", "buckets-absolute", "java_signed"),
    "whalin-1.6-old-compat": Profile("com.danga 1.6: OLD_COMPAT_HASH", "buckets-absolute", "whalin_old"),
    "whalin-1.6-new-compat": Profile("com.danga 1.6: NEW_COMPAT_HASH", "buckets", "crc32"),
    "whalin": Profile("com.danga 2, com.whalin 3, com.meetup: NATIVE_HASH", "buckets-absolute", "java_signed"),
    "whalin-old-compat": Profile("com.danga 2, com.whalin 3, com.meetup: OLD_COMPAT_HASH", "buckets-absolute", "whalin_old_64"),
    "whalin-new-compat": Profile("com.danga 2, com.whalin 3, com.meetup: NEW_COMPAT_HASH", "buckets", "crc32"),
    "whalin-consistent": Profile("com.danga 2, com.whalin 3, com.meetup: CONSISTENT_HASH", "whalin-consistent", "md5"),
}
