"""Numbers in words, as memcached's C reads and writes them."""

import pytest

from gmproxy.protocol.numbers import as_int32, c_number, plain_number


@pytest.mark.parametrize(
    "written, number",
    [
        ("0", 0),
        ("007", 7),
        ("18446744073709551615", 2**64 - 1),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1_0", None),
        (" 1", None),
        ("1\n", None),
        ("\u0661", None),
        ("\u00b2", None),
        ("9" * 21, None),
        ("9" * 5000, None),
    ],
)
def test_numbers_of_servers(written, number):
    assert plain_number(written) == number


@pytest.mark.parametrize(
    "word, number",
    [
        (b"0", 0),
        (b"-1", -1),
        (b"+7", 7),
        (b"007", 7),
        (b"\t 7", None),  # words have no spaces
        (b"\t7\vrest", 7),
        (b"7x", None),
        (b"", None),
        (b"-", None),
        (b"1_0", None),
        (b"100", 100),
        (b"101", None),
        (b"-11", None),
        (b"9" * 5000, None),
    ],
)
def test_numbers_of_clients_within_bounds(word, number):
    assert c_number(word, -10, 100) == number


@pytest.mark.parametrize("number, stored", [(0, 0), (2**31 - 1, 2**31 - 1), (2**31, -(2**31)), (-1, -1), (2**32, 0), (2**32 + 5, 5)])
def test_what_is_left_of_a_number_in_32_signed_bits(number, stored):
    assert as_int32(number) == stored
