"""MurmurHash3 x86_32 in three steps, of which Rendezvous (locators.py) does the first once for several servers.

Constants above 2**31 have names for the same reason as in hashes.py.
"""

from struct import unpack

M32 = 0xFFFFFFFF
_BEEF = 0xDEADBEEF
_MIX_1 = 0xCC9E2D51
_MIX_2 = 0xE6546B64
_END_1 = 0x85EBCA6B
_END_2 = 0xC2B2AE35


def scrambled_words(data: bytes) -> list[int]:
    """Step 1: the whole words of 4 bytes of `data`, each scrambled; they do not depend on each other."""
    words = []
    for k in unpack("<%dI" % (len(data) >> 2), data[: len(data) & ~3]):
        k = (k * _MIX_1) & M32
        words.append((((k << 15) | (k >> 17)) * 0x1B873593) & M32)
    return words


def scrambled_tail(data: bytes) -> int:
    """Step 1 for the 1 to 3 bytes after the whole words; 0 if there are none."""
    k = (int.from_bytes(data[len(data) & ~3 :], "little") * _MIX_1) & M32
    return (((k << 15) | (k >> 17)) * 0x1B873593) & M32


def mix_words(h: int, words: list[int]) -> int:
    """Step 2: the state after the scrambled `words` are mixed into the state `h`, at first the seed."""
    for k in words:
        h ^= k
        h = ((h << 13) | (h >> 19)) & M32
        h = (h * 5 + _MIX_2) & M32
    return h


def finish(h: int, tail: int, length: int) -> int:
    """Step 3: the hash. `h`: the state; `tail`: from `scrambled_tail`; `length`: of the whole text, in bytes."""
    h ^= tail ^ length
    h = ((h ^ (h >> 16)) * _END_1) & M32
    h = ((h ^ (h >> 13)) * _END_2) & M32
    return h ^ (h >> 16)


def _murmur3(key: bytes, seed: int) -> int:
    return finish(mix_words(seed, scrambled_words(key)), scrambled_tail(key), len(key))


def libmemcached(key: bytes) -> int:
    """libmemcached: MurmurHash3 x86_32, seed 0xdeadbeef * length."""
    return _murmur3(key, (_BEEF * len(key)) & M32)


def seed_0(key: bytes) -> int:
    """pymemcache: MurmurHash3 x86_32, seed 0."""
    return _murmur3(key, 0)
