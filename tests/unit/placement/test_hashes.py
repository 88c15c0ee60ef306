"""Key hashes against published values, and properties that they must have for any bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmproxy.placement.hashes import HASHES
from gmproxy.placement.hashes_utf16 import utf16_units

TWEMPROXY = "one_at_a_time md5 crc16 crc32 crc32a fnv1_64 fnv1a_64 fnv1_32 fnv1a_32 hsieh murmur jenkins".split()
SIGNED_32 = {"java_signed", "whalin_old"}
UNBOUNDED = {"whalin_old_64", "nodeproxy"}

FOX = b"The quick brown fox jumps over the lazy dog"

KNOWN = [
    ("one_at_a_time", b"a", 0xCA2E9442),
    ("one_at_a_time", FOX, 0x519E91F5),
    ("md5", b"", 0xD98C1DD4),
    ("md5", b"apple", 3195025439),
    ("md5_byte", b"", 0xD4),
    ("sha1", b"", 0xEEA339DA),
    ("crc32", b"apple", 10542),
    ("crc32a", b"123456789", 0xCBF43926),
    ("fnv1_32", b"foobar", 0x31F0B262),
    ("fnv1a_32", b"foobar", 0xBF9CF968),
    ("fnv1_64", b"foobar", 0x340D8765A4DDA9C2 & 0xFFFFFFFF),
    ("fnv1a_64", b"foobar", 0x85944171F73967E8 & 0xFFFFFFFF),
    ("hsieh", b"apple", 3738850110),
    ("hsieh", b"up", 2777873870),
    ("hsieh", b"ick", 409795758),
    ("hsieh", b"", 0),
    ("murmur", b"apple", 4142305122),
    ("jenkins", b"apple", 1442444624),
    ("jenkins", b"strawberry", 3072759809),
    ("murmur3_32", b"", 0),
    ("murmur3_32", b"hello", 0x248BFA47),
    ("murmur3_32", FOX, 0x2E4FF723),
    ("java", b"hello", 99162322),
    ("java_signed", b"polygenelubricants", -(2**31)),
    ("java", b"polygenelubricants", 2**31),
    ("java", "é".encode(), 0xE9),
    ("java", "\N{GRINNING FACE}".encode(), 0xD83D * 31 + 0xDE00),
    ("java", b"\xff", 0xFFFD),
    ("djb", b"", 5381),
    ("djb", b"a", 5381 * 33 + ord("a")),
    ("djb", b"\xe9", 5381 * 33 + 0xE9 - 256),
]


@pytest.mark.parametrize("name, key, value", KNOWN)
def test_known_values(name, key, value):
    assert HASHES[name](key) == value


def test_twemproxys_names_come_first():
    assert list(HASHES)[: len(TWEMPROXY)] == TWEMPROXY


def test_every_hash_says_what_it_is():
    assert all(function.__doc__ for function in HASHES.values())


@given(st.binary(max_size=300))
def test_results_stay_in_range(key):
    for name, function in HASHES.items():
        value = function(key)
        if name in SIGNED_32:
            assert -(2**31) <= value < 2**31
        elif name not in UNBOUNDED:
            assert 0 <= value < 2**32, name


def _fnv(key, start, prime, bits, xor_first, signed):
    """FNV as published, with the number of bits in its name."""
    mask = 2**bits - 1
    h = start
    for byte in key:
        if signed and byte > 127:
            byte -= 256
        h = ((h ^ byte) * prime if xor_first else (h * prime) ^ byte) & mask
    return h & 0xFFFFFFFF


@given(st.binary(max_size=60))
def test_fnv_in_half_the_bits_is_the_same(key):
    assert HASHES["fnv1_64"](key) == _fnv(key, 0xCBF29CE484222325, 0x100000001B3, 64, False, True)
    assert HASHES["fnv1a_64"](key) == _fnv(key, 0xCBF29CE484222325, 0x100000001B3, 64, True, True)
    assert HASHES["fnv1_32"](key) == _fnv(key, 2166136261, 16777619, 32, False, True)
    assert HASHES["fnv1a_32"](key) == _fnv(key, 2166136261, 16777619, 32, True, True)


@given(st.text(max_size=60))
def test_spymemcached_hashes_utf16_units(text):
    key = text.encode()
    units = utf16_units(key)
    assert HASHES["spy_fnv1_64"](key) == _fnv(units, 0xCBF29CE484222325, 0x100000001B3, 64, False, False)
    assert HASHES["spy_fnv1a_64"](key) == _fnv(units, 0xCBF29CE484222325, 0x100000001B3, 64, True, False)
    assert HASHES["spy_fnv1_32"](key) == _fnv(units, 2166136261, 16777619, 32, False, False)
    assert HASHES["spy_fnv1a_32"](key) == _fnv(units, 2166136261, 16777619, 32, True, False)


@given(st.binary(max_size=60))
def test_one_at_a_time_by_the_book(key):
    h = 0
    for byte in key:
        h += byte - 256 if byte > 127 else byte
        h = (h + (h << 10)) % 2**32
        h ^= h >> 6
    h = (h + (h << 3)) % 2**32
    h ^= h >> 11
    assert HASHES["one_at_a_time"](key) == (h + (h << 15)) % 2**32


@given(st.text(max_size=60))
def test_java_hashes_agree_with_one_another(text):
    key = text.encode()
    assert HASHES["java_signed"](key) % 2**32 == HASHES["java"](key)
    assert HASHES["whalin_old_64"](key) % 2**32 == HASHES["whalin_old"](key) % 2**32


def test_crc16_keeps_what_a_16_bit_register_would_lose():
    assert HASHES["crc16"](b"a") < 2**16
    assert HASHES["crc16"](b"abc") > 2**16
    assert HASHES["crc16"](b"123456789") & 0xFFFF == 0x31C3  # CRC-16/XMODEM


def test_nodeproxy_is_hashcode_as_long_as_nothing_turns_negative():
    assert HASHES["nodeproxy"](b"hello") == 99162322
    # A value below zero is not corrected, so it leaves the range of hashCode.
    assert HASHES["nodeproxy"](b"session:0b1cdc9fe1f929e469c5a54ffe0b2ed5") < -(2**31)


def test_nodeproxy_counts_the_key_that_kills_nodeproxy_as_zero():
    # 31 to the 230th power is larger than a double: from a negative value, 2000 more characters reach -Infinity.
    assert HASHES["nodeproxy"](b"session:0b1cdc9fe1f929e469c5a54ffe0b2ed5" + b"x" * 2000) == 0
