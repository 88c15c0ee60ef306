"""MurmurHash3 x86_32, in steps: `rendezvous` shares the first ones between servers.

As in ``hashes.py``, constants above 2**31 have names, so that the compiled build can keep them in C.
"""

from struct import unpack

M32 = 0xFFFFFFFF
_BEEF = 0xDEADBEEF
_MIX_1 = 0xCC9E2D51
_MIX_2 = 0xE6546B64
_END_1 = 0x85EBCA6B
_END_2 = 0xC2B2AE35


def scrambled_words(data: bytes) -> list[int]:
    """Step 1: the whole 4-byte words of ``data``, scrambled; needs no state."""
    words = []
    for k in unpack("<%dI" % (len(data) >> 2), data[: len(data) & ~3]):
        k = (k * _MIX_1) & M32
        words.append((((k << 15) | (k >> 17)) * 0x1B873593) & M32)
    return words


def scrambled_tail(data: bytes) -> int:
    """Step 1 for what is left behind the whole words; 0 if nothing is."""
    k = (int.from_bytes(data[len(data) & ~3 :], "little") * _MIX_1) & M32
    return (((k << 15) | (k >> 17)) * 0x1B873593) & M32


def mix_words(h: int, words: list[int]) -> int:
    """Step 2: mix scrambled words into the state ``h``, the seed to begin with."""
    for k in words:
        h ^= k
        h = ((h << 13) | (h >> 19)) & M32
        h = (h * 5 + _MIX_2) & M32
    return h


def finish(h: int, tail: int, length: int) -> int:
    """Step 3: the hash, from the state, the scrambled tail and the length of the whole text in bytes."""
    h ^= tail ^ length
    h = ((h ^ (h >> 16)) * _END_1) & M32
    h = ((h ^ (h >> 13)) * _END_2) & M32
    return h ^ (h >> 16)


def _murmur3(key: bytes, seed: int) -> int:
    return finish(mix_words(seed, scrambled_words(key)), scrambled_tail(key), len(key))


def libmemcached(key: bytes) -> int:
    """MurmurHash3 x86_32, seed 0xdeadbeef * length: libmemcached's."""
    return _murmur3(key, (_BEEF * len(key)) & M32)


def seed_0(key: bytes) -> int:
    """MurmurHash3 x86_32, seed 0: pymemcache's."""
    return _murmur3(key, 0)
