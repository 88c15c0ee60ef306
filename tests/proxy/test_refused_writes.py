"""A value that a server refuses to store: memcached then removes the old value of a set, and of an ms in any mode. It must not return from the other
server."""

import pytest
from support.talk import storage, value
from support.timing import eventually

#: Larger than the one server accepts, and smaller than the other does, bytes.
SIZE = 700_000
SMALL, LARGE = ("-I", "512k"), ("-I", "1m")

LINES = pytest.mark.parametrize(
    "line, is_removed",
    [
        (storage(b"set", b"k", b"x" * SIZE), True),
        (b"ms k %d\r\n%b\r\n" % (SIZE, b"x" * SIZE), True),
        (b"ms k %d MR\r\n%b\r\n" % (SIZE, b"x" * SIZE), True),
        (storage(b"replace", b"k", b"x" * SIZE), False),
    ],
    ids=["set", "ms", "ms_replace", "replace"],
)


@LINES
def test_the_primary_refuses_it(memcached, proxy, line, is_removed):
    primary, backup = memcached(*SMALL), memcached(*LARGE)
    front = proxy("-s", primary.address, "-b", backup.address, "--on-miss", "always")
    with front.talk() as talk, backup.talk() as there:
        talk.expect(storage(b"set", b"k", b"old"), b"STORED\r\n")
        eventually(lambda: b"old" in there.ask(b"get k\r\n", b"END\r\n"), what="the copy is there")
        talk.expect(line, b"SERVER_ERROR object too large for cache\r\n")
        left = b"END\r\n" if is_removed else value(b"k", b"old") + b"END\r\n"
        eventually(lambda: talk.ask(b"get k\r\n", b"END\r\n") == left, what="both agree")
        there.expect(b"get k\r\n", left)
        talk.in_step()


def test_the_backup_refuses_it(memcached, proxy):
    primary, backup = memcached(*LARGE), memcached(*SMALL)
    front = proxy("-s", primary.address, "-b", backup.address)
    with front.talk() as talk, backup.talk() as there:
        talk.expect(storage(b"replace", b"k", b"x"), b"NOT_STORED\r\n")
        talk.expect(storage(b"set", b"k", b"old"), b"STORED\r\n")
        eventually(lambda: b"old" in there.ask(b"get k\r\n", b"END\r\n"), what="the copy is there")
        talk.expect(storage(b"replace", b"k", b"x" * SIZE), b"STORED\r\n")
        eventually(lambda: there.ask(b"get k\r\n", b"END\r\n") == b"END\r\n", what="the backup has no old value")
        talk.in_step()
