"""MD5, SHA-1 and CRC as key hashes, and as points of labels on a hash ring. hashes.py has the table of all hashes."""

from collections.abc import Callable
from hashlib import sha1
from struct import Struct
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from hashlib import md5
else:
    try:
        # Python's own MD5 takes half the time of OpenSSL's for a short key, and is also there if OpenSSL is in FIPS mode.
        from _md5 import md5
    except ImportError:
        from hashlib import md5

# Has a name so that it is a C integer in the compiled build, where the literal would be a Python object.
M32 = 0xFFFFFFFF

_four_words: Callable[[bytes], tuple[int, ...]] = Struct("<4I").unpack
_four_words_of_five: Callable[[bytes], tuple[int, ...]] = Struct("<4I4x").unpack


def md5_words(data: bytes) -> tuple[int, ...]:
    """MD5 as four little-endian words of 32 bits: the points of a ketama label."""
    return _four_words(md5(data).digest())


def sha1_words(data: bytes) -> tuple[int, ...]:
    """The first four of the five little-endian words of 32 bits of SHA-1."""
    return _four_words_of_five(sha1(data).digest())


def md5_hash(key: bytes) -> int:
    """First little-endian word of MD5: twemproxy, libmemcached, ketama."""
    return _four_words(md5(key).digest())[0]


def md5_byte(key: bytes) -> int:
    """First byte of MD5, 8 bits: magent 0.6 -k."""
    return md5(key).digest()[0]


def sha1_hash(key: bytes) -> int:
    """First little-endian word of SHA-1: npm hashring with algorithm sha1."""
    return sha1_words(key)[0]


def crc32_upper(key: bytes) -> int:
    """Bits 16..30 of CRC-32: twemproxy's `crc32`, libmemcached's `crc`, python-memcached, Cache::Memcached."""
    return (crc32(key) >> 16) & 0x7FFF


def crc32a(key: bytes) -> int:
    """All 32 bits of CRC-32."""
    return crc32(key)


def _crc16_table() -> tuple[int, ...]:
    """Table of the CCITT polynomial 0x1021, most significant bit first."""
    table = []
    for byte in range(256):
        c = byte << 8
        for _ in range(8):
            c = ((c << 1) ^ 0x1021 if c & 0x8000 else c << 1) & 0xFFFF
        table.append(c)
    return tuple(table)


_CRC16 = _crc16_table()


def crc16(key: bytes) -> int:
    """twemproxy's CRC-16 CCITT. The register is not cut to 16 bits, so the upper half of the result depends on earlier bytes."""
    c = 0
    for byte in key:
        c = ((c << 8) ^ _CRC16[((c >> 8) ^ byte) & 0xFF]) & M32
    return c
