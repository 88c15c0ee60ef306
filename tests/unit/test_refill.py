"""What a refill reads from replies, and what it asks and tells whom: with a backup and a primary that only take notes."""

import pytest

from gmproxy.accel import pick

message = pick("message")
refill = pick("refill")


def asked(name, keys, reply):
    """A request for `keys` that the primary answered with `reply`."""
    request = message.Request(message.VERBS[name], keys[0], b"")
    request.keys = keys if len(keys) > 1 else None
    request.reply = reply
    return request


A = b"VALUE a 0 1\r\n1\r\n"


# -- what the backup says


@pytest.mark.parametrize("reply, read", [
    (b"EN\r\n", None),
    (b"SERVER_ERROR x\r\n", None),
    (b"VA 5 f7 t60\r\nhello\r\n", (7, 60, b"hello\r\n")),
    (b"VA 0 f0 t-1\r\n\r\n", (0, 0, b"\r\n")),
    (b"VA 4 t0 f4294967295\r\n\r\n\r\n\r\n", (4294967295, 0, b"\r\n\r\n\r\n")),
    (b"VA 2 f1\r\nhi\r\n", (1, 0, b"hi\r\n")),
    (b"VA 2\r\nhi\r\n", (0, 0, b"hi\r\n")),
])
def test_read_meta(reply, read):
    assert refill.read_meta(reply) == read


@pytest.mark.parametrize("reply, read", [
    (b"END\r\n", None),
    (b"SERVER_ERROR x\r\n", None),
    (b"VALUE a 7 5\r\nhello\r\nEND\r\n", (7, 99, b"hello\r\n")),
    (b"VALUE a 0 0\r\n\r\nEND\r\n", (0, 99, b"\r\n")),
    (b"VALUE a 0 5\r\nEND\r\n\r\nEND\r\n", (0, 99, b"END\r\n\r\n")),
])
def test_read_plain_takes_the_life_it_is_given(reply, read):
    assert refill.read_plain(reply, 99) == read


# -- whom it tells


class Owner(message.Asker):
    """Who asked; hears of the answer."""

    def __init__(self):
        self.heard = []

    def answered(self, request):
        self.heard.append(request.reply)


def test_nothing_is_missing_after_all():
    """A key that is asked twice may be found once and then no more: `gat -1 a a`. One answer to it is enough."""
    request = asked(b"gat", [b"a", b"a"], A + b"END\r\n")
    request.owner = Owner()
    refill.Refill(request, None, None).ask()
    assert request.owner.heard == [A + b"END\r\n"]
