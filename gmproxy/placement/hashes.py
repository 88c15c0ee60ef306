"""Key hashes: ``key: bytes -> int``, one function per program's idea of a hash.

The results are unsigned 32-bit integers unless a function says otherwise.  They are bug for bug those of the
programs named, for their stored keys would be lost otherwise.  Two quirks run through the C programs:

* a byte is a *signed* char: 0x80..0xff are sign-extended before use (``byte |= -256``);
* the 64-bit FNV hashes are cut to 32 bits.  The low half of a product depends on the low halves alone, and of the
  64-bit prime 0x100000001b3 the low half is 0x1b3, so 32-bit arithmetic gives the same result.

The hashes of Java and JavaScript are in ``texthash.py``.
"""

from hashlib import sha1
from struct import Struct, unpack
from zlib import crc32

from gmproxy.placement import hashes_utf16 as _texthash

try:
    # Python's own MD5 costs half of OpenSSL's on a short key and is there on FIPS machines as well.
    from _md5 import md5
except ImportError:
    from hashlib import md5

# Constants above 2**31 have names, so that the compiled build can keep them in C: as literals they would be objects.
M32 = 0xFFFFFFFF
_BEEF = 0xDEADBEEF
_MIX_1 = 0xCC9E2D51
_MIX_2 = 0xE6546B64
_END_1 = 0x85EBCA6B
_END_2 = 0xC2B2AE35

_four_words = Struct("<4I").unpack
_four_words_of_five = Struct("<4I4x").unpack


def md5_words(data):
    """MD5 as four little-endian 32-bit words: the points one ketama label contributes."""
    return _four_words(md5(data).digest())


def sha1_words(data):
    """The first four little-endian 32-bit words of SHA-1; the fifth is never used."""
    return _four_words_of_five(sha1(data).digest())


def md5_hash(key):
    """First little-endian word of MD5: twemproxy, libmemcached, ketama."""
    return _four_words(md5(key).digest())[0]


def md5_byte(key):
    """First byte of MD5 only: what magent 0.6 -k keeps of it."""
    return md5(key).digest()[0]


def sha1_hash(key):
    """First little-endian word of SHA-1: npm hashring with algorithm sha1."""
    return sha1_words(key)[0]


def crc32_upper(key):
    """Bits 16..30 of CRC-32: twemproxy's `crc32`, libmemcached's `crc`, python-memcached, Cache::Memcached."""
    return (crc32(key) >> 16) & 0x7FFF


def crc32a(key):
    """All 32 bits of CRC-32."""
    return crc32(key)


def _crc16_table():
    """Table of the CCITT polynomial 0x1021, most significant bit first."""
    table = []
    for byte in range(256):
        c = byte << 8
        for _ in range(8):
            c = ((c << 1) ^ 0x1021 if c & 0x8000 else c << 1) & 0xFFFF
        table.append(c)
    return tuple(table)


_CRC16 = _crc16_table()


def crc16(key):
    """CRC-16 CCITT whose register is never cut to 16 bits, so old bytes stay in the upper half."""
    c = 0
    for byte in key:
        c = ((c << 8) ^ _CRC16[((c >> 8) ^ byte) & 0xFF]) & M32
    return c


def one_at_a_time(key):
    """Bob Jenkins' one-at-a-time over signed bytes; libmemcached's "default"."""
    return _one_at_a_time(key, len(key))


# These take a key as text[:length]: the compiled build hashes it where it stands in a client's line. (To iterate over the slice
# would make it an object.) There a byte is signed to begin with, and a `mask` that stands in the function costs nothing: with M32 each
# byte took a fifth longer.


def _one_at_a_time(text, length):
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


def _fnv1(text, length, h, prime):
    """FNV-1 over signed bytes: multiply, then xor."""
    mask = 0xFFFFFFFF
    for at in range(length):
        byte = text[at]
        if byte > 127:
            byte |= -256
        h = ((h * prime) ^ byte) & mask
    return h


def _fnv1a(text, length, h, prime):
    """FNV-1a over signed bytes: xor, then multiply."""
    mask = 0xFFFFFFFF
    for at in range(length):
        byte = text[at]
        if byte > 127:
            byte |= -256
        h = ((h ^ byte) * prime) & mask
    return h


def fnv1_32(key):
    """FNV-1, 32 bits, signed bytes."""
    return _fnv1(key, len(key), 0x811C9DC5, 0x01000193)


def fnv1a_32(key):
    """FNV-1a, 32 bits, signed bytes; PECL memcache's `fnv`."""
    return _fnv1a(key, len(key), 0x811C9DC5, 0x01000193)


def fnv1_64(key):
    """Lower half of FNV-1 with 64 bits, signed bytes."""
    return _fnv1(key, len(key), 0x84222325, 0x1B3)


def fnv1a_64(key):
    """Lower half of FNV-1a with 64 bits, signed bytes."""
    return _fnv1a(key, len(key), 0x84222325, 0x1B3)


def _word(text, at):
    """The little-endian word of 32 bits there."""
    return text[at] | text[at + 1] << 8 | text[at + 2] << 16 | text[at + 3] << 24


def _last_word(text, at, length):
    """The last, shorter word, with zeros behind it; 0 if there is none."""
    word = 0
    for place in range(at, length):
        word |= text[place] << 8 * (place - at)
    return word


def _hsieh(text, length):
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


def hsieh(key):
    """Paul Hsieh's SuperFastHash, start 0; of a tail of three bytes the last is signed."""
    return _hsieh(key, len(key))


def _murmur(text, length):
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


def murmur(key):
    """MurmurHash2, 32 bits, seed 0xdeadbeef * length."""
    return _murmur(key, len(key))


def murmur3_words(data):
    """MurmurHash3 x86_32, step 1: the whole 4-byte words of ``data``, scrambled; needs no state."""
    words = []
    for k in unpack("<%dI" % (len(data) >> 2), data[: len(data) & ~3]):
        k = (k * _MIX_1) & M32
        words.append((((k << 15) | (k >> 17)) * 0x1B873593) & M32)
    return words


def murmur3_tail(data):
    """Step 1 for what is left behind the whole words; 0 if nothing is."""
    k = (int.from_bytes(data[len(data) & ~3 :], "little") * _MIX_1) & M32
    return (((k << 15) | (k >> 17)) * 0x1B873593) & M32


def murmur3_stir(h, words):
    """Step 2: stir scrambled words into the state ``h``, the seed to begin with."""
    for k in words:
        h ^= k
        h = ((h << 13) | (h >> 19)) & M32
        h = (h * 5 + _MIX_2) & M32
    return h


def murmur3_end(h, tail, length):
    """Step 3: the hash, from the state, the scrambled tail and the length of the whole text in bytes."""
    h ^= tail ^ length
    h = ((h ^ (h >> 16)) * _END_1) & M32
    h = ((h ^ (h >> 13)) * _END_2) & M32
    return h ^ (h >> 16)


def _murmur3(key, seed):
    return murmur3_end(murmur3_stir(seed, murmur3_words(key)), murmur3_tail(key), len(key))


def murmur3(key):
    """MurmurHash3 x86_32, seed 0xdeadbeef * length: libmemcached's."""
    return _murmur3(key, (_BEEF * len(key)) & M32)


def murmur3_32(key):
    """MurmurHash3 x86_32, seed 0: pymemcache's."""
    return _murmur3(key, 0)


def _rotate(x, bits):
    return ((x << bits) | (x >> (32 - bits))) & M32


def _jenkins(text, length):
    a = b = c = (_BEEF + 13 + length) & M32
    if length == 0:
        return c
    # The last block, perhaps shorter, takes the final mix instead of the usual one.
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


def jenkins(key):
    """Bob Jenkins' lookup3 (hashlittle), initial value 13, result c."""
    return _jenkins(key, len(key))


def djb(key):
    """magent: h * 33 + signed byte from 5381, 31 bits."""
    return _djb(key, len(key))


def _djb(text, length):
    h = 5381
    for at in range(length):
        byte = text[at]
        if byte > 127:
            byte |= -256
        h = (h * 33 + byte) & 0x7FFFFFFF
    return h


# Name -> function.  The first twelve are twemproxy's, under twemproxy's names.
HASHES = {
    "one_at_a_time": one_at_a_time,
    "md5": md5_hash,
    "crc16": crc16,
    "crc32": crc32_upper,
    "crc32a": crc32a,
    "fnv1_64": fnv1_64,
    "fnv1a_64": fnv1a_64,
    "fnv1_32": fnv1_32,
    "fnv1a_32": fnv1a_32,
    "hsieh": hsieh,
    "murmur": murmur,
    "jenkins": jenkins,
    "djb": djb,
    "java": _texthash.java,
    "java_signed": _texthash.java_signed,
    "md5_byte": md5_byte,
    "murmur3": murmur3,
    "murmur3_32": murmur3_32,
    "nodeproxy": _texthash.nodeproxy,
    "sha1": sha1_hash,
    "spy_fnv1_32": _texthash.spy_fnv1_32,
    "spy_fnv1_64": _texthash.spy_fnv1_64,
    "spy_fnv1a_32": _texthash.spy_fnv1a_32,
    "spy_fnv1a_64": _texthash.spy_fnv1a_64,
    "whalin_old": _texthash.whalin_old,
    "whalin_old_64": _texthash.whalin_old_64,
}


class QuickHash:
    """One of the hashes above whose result is an unsigned number of 32 bits. The compiled build takes it as one of C's."""

    __slots__ = ()

    def of(self, text, length):
        """The hash of text[:length]."""
        raise NotImplementedError


class QuickFunction(QuickHash):
    """Whose function wants the key as an object."""

    __slots__ = ("hash_key",)

    def __init__(self, hash_key):
        self.hash_key = hash_key

    def of(self, text, length):
        return self.hash_key(text[:length])


class QuickFnv1(QuickHash):

    __slots__ = ("start", "prime")

    def __init__(self, start, prime):
        self.start = start
        self.prime = prime

    def of(self, text, length):
        return _fnv1(text, length, self.start, self.prime)


class QuickFnv1a(QuickFnv1):

    __slots__ = ()

    def of(self, text, length):
        return _fnv1a(text, length, self.start, self.prime)


class QuickOneAtATime(QuickHash):

    __slots__ = ()

    def of(self, text, length):
        return _one_at_a_time(text, length)


class QuickHsieh(QuickHash):

    __slots__ = ()

    def of(self, text, length):
        return _hsieh(text, length)


class QuickMurmur(QuickHash):

    __slots__ = ()

    def of(self, text, length):
        return _murmur(text, length)


class QuickJenkins(QuickHash):

    __slots__ = ()

    def of(self, text, length):
        return _jenkins(text, length)


class QuickDjb(QuickHash):

    __slots__ = ()

    def of(self, text, length):
        return _djb(text, length)


#: Whose results are signed, or without a bound.
_WIDE = ("java_signed", "whalin_old", "whalin_old_64", "nodeproxy")

_QUICK = {hash_key: QuickFunction(hash_key) for name, hash_key in HASHES.items() if name not in _WIDE} | {
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


def quick_hash(hash_key):
    """The QuickHash for a function of this module, or None if there is none."""
    return _QUICK.get(hash_key)
