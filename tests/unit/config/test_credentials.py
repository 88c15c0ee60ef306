"""Files of users: the users in them, their permission bits, and that no password is printed."""

import json

import pytest

from gmproxy.config import credentials


@pytest.fixture
def write(tmp_path):
    """Write a file that only its owner may read. Returns its path."""

    def write(text, mode=0o600):
        path = tmp_path / "users"
        path.write_bytes(text)
        path.chmod(mode)
        return str(path)

    return write


def test_who_may_come_in(write):
    found = credentials.read_file(write(b"one:secret\ntwo:a b:c \xff\r\n\n"))
    assert found.allow(b"one", b"secret")
    assert found.allow(b"two", b"a b:c \xff")
    assert len(found) == 2
    for user, password in ((b"one", b"Secret"), (b"one", b""), (b"two", b"secret"), (b"none", b"secret"), (b"", b""), (b"none", b"")):
        assert not found.allow(user, password)


def test_a_password_is_never_shown(write):
    path = write(b"one:secret\n")
    found = credentials.read_file(path)
    assert (str(found), repr(found)) == (path, f"<Users {path}>")


def test_they_can_be_sent_and_compared(write):
    found = credentials.read_file(write(b"one:secret\ntwo:\xff\n"))
    sent = credentials.from_plain(json.loads(json.dumps(found.as_plain())))
    assert sent == found
    assert sent.allow(b"two", b"\xff")
    assert found != credentials.read_file(write(b"one:secret\ntwo:other\n"))
    assert found != "" and found != "users"


@pytest.mark.parametrize("mode, refused", [(0o644, True), (0o604, True), (0o640, False), (0o600, False)])
def test_not_everybody_may_be_able_to_read_it(write, mode, refused):
    path = write(b"one:secret\n", mode)
    if refused:
        with pytest.raises(ValueError, match="must not be readable by others: chmod o-r"):
            credentials.read_file(path)
    else:
        assert credentials.read_file(path).allow(b"one", b"secret")


@pytest.mark.parametrize(
    "text, complaint",
    [
        (b"", "contains no USER:PASSWORD line"),
        (b"\n\n", "contains no USER:PASSWORD line"),
        (b"one\n", ":1: expected USER:PASSWORD"),
        (b"one:secret\n:x\n", ":2: expected"),
        (b"one:\n", ":1: expected"),
        (b"one:a\none:b\n", ":2: duplicate user name"),
        (b"a:b\n" * 20_000, "is larger than"),
    ],
)
def test_what_is_no_such_file(write, text, complaint):
    with pytest.raises(ValueError) as caught:
        credentials.read_file(write(text))
    assert complaint in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there():
    with pytest.raises(ValueError, match="cannot read /no/where: No such file"):
        credentials.read_file("/no/where")


@pytest.mark.parametrize(
    "text, complaint", [(b"a:b\nc:d\n", "2 users: expected one"), (b"a:b\0c\n", "a zero byte"), (b"a\0b:c\n", "a zero byte")]
)
def test_who_we_are_to_a_server_is_one_and_can_be_said(write, text, complaint):
    assert credentials.read_single(write(b"one:secret\n")).single() == (b"one", b"secret")
    assert credentials.read_single(write(b"one:my secret\n")).single() == (b"one", b"my secret")
    with pytest.raises(ValueError, match=complaint):
        credentials.read_single(write(text))
