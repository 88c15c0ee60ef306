"""The commands that gmproxy itself sends to servers about a key."""

import pytest

from gmproxy.protocol import internal_commands


@pytest.mark.parametrize(
    "key, line",
    [
        (b"k", b"delete k\r\n"),
        (b"a b", b"md YSBi b\r\n"),
        (b"noreply", b"delete noreply 0\r\n"),
        (b"noreply2", b"delete noreply2\r\n"),
    ],
)
def test_forget(key, line):
    """memcached 1.6.45 does not reply to `delete noreply`: a server where this key must be deleted would never be read again."""
    assert internal_commands.delete(key)[1] == line
    assert internal_commands.delete_all([b"x", key]) == b"delete x\r\n" + line
