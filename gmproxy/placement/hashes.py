"""Key hashes of proxies and client libraries: functions of a key (bytes) that return an integer.

The result is an unsigned number of 32 bits unless the function says otherwise. It is that of the named program, including its bugs: otherwise the
keys stored by it would not be found. The C programs have two peculiarities:

* a byte is a *signed* char: 0x80..0xff are sign-extended before use (`byte |= -256`);
* the 64-bit FNV hashes are cut to 32 bits. The low half of a product depends on the low halves alone, and the low half of the 64-bit prime
  0x100000001b3 is 0x1b3, so arithmetic of 32 bits has the same result.

MD5, SHA-1 and CRC are in digests.py, the hashes of Java and JavaScript in hashes_utf16.py, MurmurHash3 in murmur3.py.
"""

from collections.abc import Callable

from gmproxy.placement import digests, hashes_utf16, murmur3

# Constants above 2**31 have names, so that they are C integers in the compiled build, where literals would be Python objects.
M32 = 0xFFFFFFFF
_BEEF = 0xDEADBEEF


def one_at_a_time(key: bytes) -> int:
    """Bob Jenkins' one-at-a-time over signed bytes; libmemcached's "default"."""
    return _one_at_a_time(key, len(key))


# The functions with `text` and `length` hash text[:length]. In the compiled build `text` is a pointer into the client's line, so no object is made
# for the key, and its bytes are signed. A loop has a local `mask` since a global M32 takes a fifth longer for each byte.


def _one_at_a_time(text: bytes, length: int) -> int:
    mask = 0xFFFFFFFF
    h = 0
    for at in range(length):
        byte = text[at]
        if byte > 127:
            byte |= -256
        h = ((h + byte) * 1025) & mask
        h ^= h >> 6
    h = (h * 9) & M32
    h ^= h >> 11
    return (h * 32769) & M32


def _fnv1(text: bytes, length: int, h: int, prime: int) -> int:
    """FNV-1 over signed bytes: multiply, then xor."""
    mask = 0xFFFFFFFF
    for at in range(length):
        byte = text[at]
        if byte > 127:
            byte |= -256
        h = ((h * prime) ^ byte) & mask
    return h


def _fnv1a(text: bytes, length: int, h: int, prime: int) -> int:
    """FNV-1a over signed bytes: xor, then multiply."""
    mask = 0xFFFFFFFF
    for at in range(length):
        byte = text[at]
        if byte > 127:
            byte |= -256
        h = ((h ^ byte) * prime) & mask
    return h


def fnv1_32(key: bytes) -> int:
    """FNV-1, 32 bits, signed bytes."""
    return _fnv1(key, len(key), 0x811C9DC5, 0x01000193)


def fnv1a_32(key: bytes) -> int:
    """FNV-1a, 32 bits, signed bytes; PECL memcache's `fnv`."""
    return _fnv1a(key, len(key), 0x811C9DC5, 0x01000193)


def fnv1_64(key: bytes) -> int:
    """Lower half of FNV-1 with 64 bits, signed bytes."""
    return _fnv1(key, len(key), 0x84222325, 0x1B3)


def fnv1a_64(key: bytes) -> int:
    """Lower half of FNV-1a with 64 bits, signed bytes."""
    return _fnv1a(key, len(key), 0x84222325, 0x1B3)


def _word(text: bytes, at: int) -> int:
    """The little-endian word of 32 bits at offset `at`."""
    return text[at] | text[at + 1] << 8 | text[at + 2] << 16 | text[at + 3] << 24


def _last_word(text: bytes, at: int, length: int) -> int:
    """The bytes from offset `at` to before `length`, at most 4, as a little-endian word filled up with zeros."""
    word = 0
    for index in range(at, length):
        word |= text[index] << 8 * (index - at)
    return word


def _hsieh(text: bytes, length: int) -> int:
    whole = length & ~3
    h = 0
    for at in range(0, whole, 4):
        word = _word(text, at)
        h += word & 0xFFFF
        h = (((h << 16) ^ h) ^ ((word >> 16) << 11)) & M32
        h = (h + (h >> 11)) & M32
    left = length & 3
    if left == 1:
        h = (h + text[whole]) & M32
        h = (h ^ (h << 10)) & M32
        h += h >> 1
    elif left:
        h = (h + text[whole] + (text[whole + 1] << 8)) & M32
        if left == 2:
            h = (h ^ (h << 11)) & M32
            h += h >> 17
        else:
            byte = text[whole + 2]
            if byte > 127:
                byte |= -256
            h = (h ^ (h << 16) ^ (byte << 18)) & M32
            h += h >> 11
    h = (h ^ (h << 3)) & M32
    h = (h + (h >> 5)) & M32
    h = (h ^ (h << 4)) & M32
    h = (h + (h >> 17)) & M32
    h = (h ^ (h << 25)) & M32
    return (h + (h >> 6)) & M32


def hsieh(key: bytes) -> int:
    """Paul Hsieh's SuperFastHash, initial value 0; if three bytes are left after the whole words, the last is signed."""
    return _hsieh(key, len(key))


def _murmur(text: bytes, length: int) -> int:
    whole = length & ~3
    h = ((_BEEF * length) ^ length) & M32
    for at in range(0, whole, 4):
        k = (_word(text, at) * 0x5BD1E995) & M32
        k = ((k ^ (k >> 24)) * 0x5BD1E995) & M32
        h = ((h * 0x5BD1E995) & M32) ^ k
    if length & 3:
        h = ((h ^ _last_word(text, whole, length)) * 0x5BD1E995) & M32
    h = ((h ^ (h >> 13)) * 0x5BD1E995) & M32
    return h ^ (h >> 15)


def murmur(key: bytes) -> int:
    """MurmurHash2, 32 bits, seed 0xdeadbeef * length."""
    return _murmur(key, len(key))


def _rotate(x: int, bits: int) -> int:
    return ((x << bits) | (x >> (32 - bits))) & M32


def _jenkins(text: bytes, length: int) -> int:
    a = b = c = (_BEEF + 13 + length) & M32
    if length == 0:
        return c
    # The last block, which may be shorter, is mixed in another way.
    last = (length - 1) // 12 * 12
    for at in range(0, last, 12):
        a = (a + _word(text, at)) & M32
        b = (b + _word(text, at + 4)) & M32
        c = (c + _word(text, at + 8)) & M32
        a = ((a - c) & M32) ^ _rotate(c, 4)
        c = (c + b) & M32
        b = ((b - a) & M32) ^ _rotate(a, 6)
        a = (a + c) & M32
        c = ((c - b) & M32) ^ _rotate(b, 8)
        b = (b + a) & M32
        a = ((a - c) & M32) ^ _rotate(c, 16)
        c = (c + b) & M32
        b = ((b - a) & M32) ^ _rotate(a, 19)
        a = (a + c) & M32
        c = ((c - b) & M32) ^ _rotate(b, 4)
        b = (b + a) & M32
    a = (a + _last_word(text, last, min(last + 4, length))) & M32
    b = (b + _last_word(text, last + 4, min(last + 8, length))) & M32
    c = (c + _last_word(text, last + 8, length)) & M32
    c = ((c ^ b) - _rotate(b, 14)) & M32
    a = ((a ^ c) - _rotate(c, 11)) & M32
    b = ((b ^ a) - _rotate(a, 25)) & M32
    c = ((c ^ b) - _rotate(b, 16)) & M32
    a = ((a ^ c) - _rotate(c, 4)) & M32
    b = ((b ^ a) - _rotate(a, 14)) & M32
    return ((c ^ b) - _rotate(b, 24)) & M32


def jenkins(key: bytes) -> int:
    """Bob Jenkins' lookup3 (hashlittle), initial value 13, result c."""
    return _jenkins(key, len(key))


def djb(key: bytes) -> int:
    """magent: h * 33 + signed byte, initial value 5381, 31 bits."""
    return _djb(key, len(key))


def _djb(text: bytes, length: int) -> int:
    h = 5381
    for at in range(length):
        byte = text[at]
        if byte > 127:
            byte |= -256
        h = (h * 33 + byte) & 0x7FFFFFFF
    return h


#: Name of a key hash -> function. The first twelve have twemproxy's names.
HASHES: dict[str, Callable[[bytes], int]] = {
    "one_at_a_time": one_at_a_time,
    "md5": digests.md5_hash,
    "crc16": digests.crc16,
    "crc32": digests.crc32_upper,
    "crc32a": digests.crc32a,
    "fnv1_64": fnv1_64,
    "fnv1a_64": fnv1a_64,
    "fnv1_32": fnv1_32,
    "fnv1a_32": fnv1a_32,
    "hsieh": hsieh,
    "murmur": murmur,
    "jenkins": jenkins,
    "djb": djb,
    "java": hashes_utf16.java,
    "java_signed": hashes_utf16.java_signed,
    "md5_byte": digests.md5_byte,
    "murmur3": murmur3.libmemcached,
    "murmur3_32": murmur3.seed_0,
    "nodeproxy": hashes_utf16.nodeproxy,
    "sha1": digests.sha1_hash,
    "spy_fnv1_32": hashes_utf16.spy_fnv1_32,
    "spy_fnv1_64": hashes_utf16.spy_fnv1_64,
    "spy_fnv1a_32": hashes_utf16.spy_fnv1a_32,
    "spy_fnv1a_64": hashes_utf16.spy_fnv1a_64,
    "whalin_old": hashes_utf16.whalin_old,
    "whalin_old_64": hashes_utf16.whalin_old_64,
}


class QuickHash:
    """One of the hashes above whose result is an unsigned number of 32 bits, for Locators: in the compiled build its key and result are C
    values."""

    __slots__ = ()

    def hash_bytes(self, text: bytes, length: int) -> int:
        """The hash of text[:length]."""
        raise NotImplementedError


class QuickFunction(QuickHash):
    """A hash whose function needs the key as an object."""

    __slots__ = ("hash_key",)

    def __init__(self, hash_key: Callable[[bytes], int]) -> None:
        self.hash_key = hash_key

    def hash_bytes(self, text: bytes, length: int) -> int:
        return self.hash_key(text[:length])


class QuickFnv1(QuickHash):
    __slots__ = ("start", "prime")

    def __init__(self, start: int, prime: int) -> None:
        self.start = start
        self.prime = prime

    def hash_bytes(self, text: bytes, length: int) -> int:
        return _fnv1(text, length, self.start, self.prime)


class QuickFnv1a(QuickFnv1):
    __slots__ = ()

    def hash_bytes(self, text: bytes, length: int) -> int:
        return _fnv1a(text, length, self.start, self.prime)


class QuickOneAtATime(QuickHash):
    __slots__ = ()

    def hash_bytes(self, text: bytes, length: int) -> int:
        return _one_at_a_time(text, length)


class QuickHsieh(QuickHash):
    __slots__ = ()

    def hash_bytes(self, text: bytes, length: int) -> int:
        return _hsieh(text, length)


class QuickMurmur(QuickHash):
    __slots__ = ()

    def hash_bytes(self, text: bytes, length: int) -> int:
        return _murmur(text, length)


class QuickJenkins(QuickHash):
    __slots__ = ()

    def hash_bytes(self, text: bytes, length: int) -> int:
        return _jenkins(text, length)


class QuickDjb(QuickHash):
    __slots__ = ()

    def hash_bytes(self, text: bytes, length: int) -> int:
        return _djb(text, length)


#: Names of the hashes whose results can be negative or have more than 32 bits.
_WIDE = ("java_signed", "whalin_old", "whalin_old_64", "nodeproxy")

#: Function of a key hash -> its QuickHash.
_QUICK: dict[Callable[[bytes], int], QuickHash] = {
    hash_key: QuickFunction(hash_key) for name, hash_key in HASHES.items() if name not in _WIDE
} | {
    fnv1_32: QuickFnv1(0x811C9DC5, 0x01000193),
    fnv1a_32: QuickFnv1a(0x811C9DC5, 0x01000193),
    fnv1_64: QuickFnv1(0x84222325, 0x1B3),
    fnv1a_64: QuickFnv1a(0x84222325, 0x1B3),
    one_at_a_time: QuickOneAtATime(),
    hsieh: QuickHsieh(),
    murmur: QuickMurmur(),
    jenkins: QuickJenkins(),
    djb: QuickDjb(),
}


def quick_hash(hash_key: Callable[[bytes], int]) -> QuickHash | None:
    """The QuickHash of a function in HASHES, or None if there is none."""
    return _QUICK.get(hash_key)
