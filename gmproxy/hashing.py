"""Key hashes: ``key: bytes -> int``, one function per program's idea of a hash.

The results are unsigned 32-bit integers unless a function says otherwise.  They are bug for bug those of the
programs named, for their stored keys would be lost otherwise.  Two quirks run through the C programs:

* a byte is a *signed* char: 0x80..0xff are sign-extended before use (``byte |= -256``);
* the 64-bit FNV hashes are cut to 32 bits.  The low half of a product depends on the low halves alone, and of the
  64-bit prime 0x100000001b3 the low half is 0x1b3, so 32-bit arithmetic gives the same result.

Java and JavaScript hash UTF-16 code units; on the wire there is UTF-8, so those hashes decode first.
"""

from hashlib import sha1
from struct import Struct, unpack
from zlib import crc32

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
# would make it an object.) There a byte is signed to begin with.


def _one_at_a_time(text, length):
    h = 0
    for at in range(length):
        byte = text[at]
        if byte > 127:
            byte |= -256
        h = ((h + byte) * 1025) & M32
        h ^= h >> 6
    h = (h * 9) & M32
    h ^= h >> 11
    return (h * 32769) & M32


def _fnv1(text, length, h, prime):
    """FNV-1 over signed bytes: multiply, then xor."""
    for at in range(length):
        byte = text[at]
        if byte > 127:
            byte |= -256
        h = ((h * prime) ^ byte) & M32
    return h


def _fnv1a(text, length, h, prime):
    """FNV-1a over signed bytes: xor, then multiply."""
    for at in range(length):
        byte = text[at]
        if byte > 127:
            byte |= -256
        h = ((h ^ byte) * prime) & M32
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


def hsieh(key):
    """Paul Hsieh's SuperFastHash, start 0; of a tail of three bytes the last is signed."""
    length = len(key)
    whole = length & ~3
    h = 0
    for word in unpack("<%dI" % (length >> 2), key[:whole]):
        h += word & 0xFFFF
        h = (((h << 16) ^ h) ^ ((word >> 16) << 11)) & M32
        h = (h + (h >> 11)) & M32
    left = length & 3
    if left == 1:
        h = (h + key[whole]) & M32
        h = (h ^ (h << 10)) & M32
        h += h >> 1
    elif left:
        h = (h + key[whole] + (key[whole + 1] << 8)) & M32
        if left == 2:
            h = (h ^ (h << 11)) & M32
            h += h >> 17
        else:
            byte = key[whole + 2]
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


def murmur(key):
    """MurmurHash2, 32 bits, seed 0xdeadbeef * length."""
    length = len(key)
    whole = length & ~3
    h = ((_BEEF * length) ^ length) & M32
    for k in unpack("<%dI" % (length >> 2), key[:whole]):
        k = (k * 0x5BD1E995) & M32
        k = ((k ^ (k >> 24)) * 0x5BD1E995) & M32
        h = ((h * 0x5BD1E995) & M32) ^ k
    if length & 3:
        h = ((h ^ int.from_bytes(key[whole:], "little")) * 0x5BD1E995) & M32
    h = ((h ^ (h >> 13)) * 0x5BD1E995) & M32
    return h ^ (h >> 15)


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


def jenkins(key):
    """Bob Jenkins' lookup3 (hashlittle), initial value 13, result c."""
    length = len(key)
    a = b = c = (_BEEF + 13 + length) & M32
    if length == 0:
        return c
    # Zero bytes add nothing, so the last, shorter block is padded; it takes the final mix instead of the usual one.
    padded = key + bytes(-length % 12)
    words = unpack("<%dI" % (len(padded) >> 2), padded)
    last = len(words) - 3
    for i in range(0, last, 3):
        a = (a + words[i]) & M32
        b = (b + words[i + 1]) & M32
        c = (c + words[i + 2]) & M32
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
    a = (a + words[last]) & M32
    b = (b + words[last + 1]) & M32
    c = (c + words[last + 2]) & M32
    c = ((c ^ b) - _rotate(b, 14)) & M32
    a = ((a ^ c) - _rotate(c, 11)) & M32
    b = ((b ^ a) - _rotate(a, 25)) & M32
    c = ((c ^ b) - _rotate(b, 16)) & M32
    a = ((a ^ c) - _rotate(c, 4)) & M32
    b = ((b ^ a) - _rotate(a, 14)) & M32
    return ((c ^ b) - _rotate(b, 24)) & M32


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


def utf16_units(key):
    """The UTF-16 code units of a UTF-8 key, as Java and JavaScript see it; bad bytes become U+FFFD."""
    if key.isascii():
        return key
    text = key.decode("utf-8", "replace").encode("utf-16-le")
    return unpack("<%dH" % (len(text) >> 1), text)


def _java_polynomial(key, base):
    h = 0
    for unit in utf16_units(key):
        h = (h * base + unit) & M32
    return h


def java(key):
    """Java String.hashCode taken as unsigned: spymemcached's NATIVE_HASH."""
    return _java_polynomial(key, 31)


def java_signed(key):
    """Java String.hashCode as Java prints it: signed 32 bits."""
    return (_java_polynomial(key, 31) ^ 0x80000000) - 0x80000000


def whalin_old(key):
    """OLD_COMPAT_HASH of com.danga 1.x: h * 33 + unit from 0, signed 32 bits."""
    return (_java_polynomial(key, 33) ^ 0x80000000) - 0x80000000


def whalin_old_64(key):
    """OLD_COMPAT_HASH of com.danga 2.0 and later: the same in signed 64 bits."""
    h = 0
    for unit in utf16_units(key):
        h = (h * 33 + unit) & 0xFFFFFFFFFFFFFFFF
    return (h ^ 0x8000000000000000) - 0x8000000000000000


def _spy_fnv1(key, h, prime):
    for unit in utf16_units(key):
        h = ((h * prime) & M32) ^ unit
    return h


def _spy_fnv1a(key, h, prime):
    for unit in utf16_units(key):
        h = ((h ^ unit) * prime) & M32
    return h


def spy_fnv1_32(key):
    """spymemcached's FNV1_32_HASH: over UTF-16 units; differs from fnv1_32 on non-ASCII keys only."""
    return _spy_fnv1(key, 0x811C9DC5, 0x01000193)


def spy_fnv1a_32(key):
    """spymemcached's FNV1A_32_HASH: over UTF-16 units."""
    return _spy_fnv1a(key, 0x811C9DC5, 0x01000193)


def spy_fnv1_64(key):
    """spymemcached's FNV1_64_HASH: over UTF-16 units, lower half."""
    return _spy_fnv1(key, 0x84222325, 0x1B3)


def spy_fnv1a_64(key):
    """spymemcached's FNV1A_64_HASH: over UTF-16 units, lower half."""
    return _spy_fnv1a(key, 0x84222325, 0x1B3)


def nodeproxy(key):
    """nodeproxy's broken hashCode, in doubles: negative values grow without bound and lose digits.

    Result: any integer.  A long key can reach -Infinity, on which nodeproxy dies; here it counts as 0.
    """
    h = 0.0
    for unit in utf16_units(key):
        h = 31.0 * h + unit
        while h > 2147483647.0:
            h -= 4294967296.0
    return 0 if h == float("-inf") else int(h)


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
    "java": java,
    "java_signed": java_signed,
    "md5_byte": md5_byte,
    "murmur3": murmur3,
    "murmur3_32": murmur3_32,
    "nodeproxy": nodeproxy,
    "sha1": sha1_hash,
    "spy_fnv1_32": spy_fnv1_32,
    "spy_fnv1_64": spy_fnv1_64,
    "spy_fnv1a_32": spy_fnv1a_32,
    "spy_fnv1a_64": spy_fnv1a_64,
    "whalin_old": whalin_old,
    "whalin_old_64": whalin_old_64,
}


class QuickHash:
    """One of the hashes above, for which the compiled build makes no Python object."""

    __slots__ = ()

    def of(self, text, length):
        """The hash of text[:length]."""
        raise NotImplementedError


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


class QuickDjb(QuickHash):

    __slots__ = ()

    def of(self, text, length):
        return _djb(text, length)


_QUICK = {
    fnv1_32: QuickFnv1(0x811C9DC5, 0x01000193),
    fnv1a_32: QuickFnv1a(0x811C9DC5, 0x01000193),
    fnv1_64: QuickFnv1(0x84222325, 0x1B3),
    fnv1a_64: QuickFnv1a(0x84222325, 0x1B3),
    one_at_a_time: QuickOneAtATime(),
    djb: QuickDjb(),
}


def quick_hash(hash_key):
    """The QuickHash for a function of this module, or None if there is none."""
    return _QUICK.get(hash_key)
