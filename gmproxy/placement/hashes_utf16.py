"""Key hashes of libraries in Java and JavaScript, which hash characters instead of bytes: functions of a key (bytes) that return an integer.

A character is a UTF-16 code unit there, and a key is UTF-8 when it is sent, so it is decoded first. hashes.py has the table of all hashes.
"""

from collections.abc import Sequence
from struct import unpack

# Has a name so that it is a C integer in the compiled build, where the literal would be a Python object.
M32 = 0xFFFFFFFF


def utf16_units(key: bytes) -> Sequence[int]:
    """The UTF-16 code units of a key in UTF-8; bad bytes become U+FFFD."""
    if key.isascii():
        return key
    text = key.decode("utf-8", "replace").encode("utf-16-le")
    return unpack("<%dH" % (len(text) >> 1), text)


def _java_polynomial(key: bytes, base: int) -> int:
    h = 0
    for unit in utf16_units(key):
        h = (h * base + unit) & M32
    return h


def java(key: bytes) -> int:
    """Java's String.hashCode as an unsigned number: spymemcached's NATIVE_HASH."""
    return _java_polynomial(key, 31)


def java_signed(key: bytes) -> int:
    """Java's String.hashCode: a signed number of 32 bits."""
    return (_java_polynomial(key, 31) ^ 0x80000000) - 0x80000000


def whalin_old(key: bytes) -> int:
    """OLD_COMPAT_HASH of com.danga 1.x: h * 33 + unit, initial value 0, a signed number of 32 bits."""
    return (_java_polynomial(key, 33) ^ 0x80000000) - 0x80000000


def whalin_old_64(key: bytes) -> int:
    """OLD_COMPAT_HASH of com.danga 2.0 and later: the same with a signed number of 64 bits."""
    h = 0
    for unit in utf16_units(key):
        h = (h * 33 + unit) & 0xFFFFFFFFFFFFFFFF
    return (h ^ 0x8000000000000000) - 0x8000000000000000


def _spy_fnv1(key: bytes, h: int, prime: int) -> int:
    for unit in utf16_units(key):
        h = ((h * prime) & M32) ^ unit
    return h


def _spy_fnv1a(key: bytes, h: int, prime: int) -> int:
    for unit in utf16_units(key):
        h = ((h ^ unit) * prime) & M32
    return h


def spy_fnv1_32(key: bytes) -> int:
    """spymemcached's FNV1_32_HASH, which differs from fnv1_32 for keys that are not ASCII only."""
    return _spy_fnv1(key, 0x811C9DC5, 0x01000193)


def spy_fnv1a_32(key: bytes) -> int:
    """spymemcached's FNV1A_32_HASH."""
    return _spy_fnv1a(key, 0x811C9DC5, 0x01000193)


def spy_fnv1_64(key: bytes) -> int:
    """Lower half of spymemcached's FNV1_64_HASH."""
    return _spy_fnv1(key, 0x84222325, 0x1B3)


def spy_fnv1a_64(key: bytes) -> int:
    """Lower half of spymemcached's FNV1A_64_HASH."""
    return _spy_fnv1a(key, 0x84222325, 0x1B3)


def nodeproxy(key: bytes) -> int:
    """nodeproxy's variant of String.hashCode, computed in doubles: negative values grow without limit and lose digits.

    Returns any integer. For a long key the value can be -Infinity, at which nodeproxy crashes; here the result is 0.
    """
    h = 0.0
    for unit in utf16_units(key):
        h = 31.0 * h + unit
        while h > 2147483647.0:
            h -= 4294967296.0
    return 0 if h == float("-inf") else int(h)
