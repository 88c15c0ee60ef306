"""The parsers of values: what each accepts, and the error for what it does not."""

import pytest

from gmproxy.config import values


@pytest.mark.parametrize(
    "text, value",
    [
        ("yes", True),
        ("Yes", True),
        ("true", True),
        ("on", True),
        ("1", True),
        ("no", False),
        ("OFF", False),
        ("false", False),
        ("0", False),
    ],
)
def test_yes_or_no(text, value):
    assert values.yes_or_no(text) is value


BAD = [
    (values.yes_or_no, "maybe", "neither yes nor no"),
    (values.yes_or_no, "", "neither yes nor no"),
    (values.Whole(1, 10), "0", "not a whole number from 1 to 10"),
    (values.Whole(1, 10), "11", "not a whole number"),
    (values.Whole(1, 10), "+5", "not a whole number"),
    (values.Whole(1, 10), "1_0", "not a whole number"),
    (values.Whole(1, 10), "\u0661", "not a whole number"),
    (values.Whole(1, 10), "5.0", "not a whole number"),
    (values.Whole(1, 10), "", "not a whole number"),
    (values.milliseconds, "0", "not a whole number"),
    (values.milliseconds, "0.5", "not a whole number"),
    (values.size, "1023", "not a size from 1k to 1024m"),
    (values.size, "1025m", "not a size"),
    (values.size, "1g", "not a size"),
    (values.size, "k", "not a size"),
    (values.OneOf("a", "b"), "c", "is unknown: it must be one of a, b"),
    (values.hash_tag, "{", "not two characters"),
    (values.octal_mode, "0888", "not a file mode in octal"),
    (values.servers, "a:b", "port 'b' is not a number"),
]


@pytest.mark.parametrize("parse, text, why", BAD)
def test_a_bad_value_is_quoted_with_what_was_expected(parse, text, why):
    with pytest.raises(ValueError, match=why) as caught:
        parse(text)
    assert repr(text) in str(caught.value) or text == "a:b"


@pytest.mark.parametrize("text, value", [("1k", 1024), ("1K", 1024), ("1m", 1 << 20), ("1024m", 1 << 30), ("5000", 5000)])
def test_size(text, value):
    assert values.size(text) == value
