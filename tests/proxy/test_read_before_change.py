"""A read and a write of its key in one packet, and the server closes the connection: the read never returns the value written behind it."""

import pytest
from support.scripted import close
from support.talk import storage, value


class ExecutesAndCloses:
    """A server that does not reply to its first read, makes the write behind it, and closes the connection. Later reads return the new value."""

    def __init__(self):
        self.changed = False

    def answer(self, request):
        words = request.split()
        if words[0] in (b"get", b"gets", b"mg"):
            if not self.changed:
                return []
            if words[0] == b"mg":
                return b"VA 3\r\nnew\r\n"
            return b"".join(value(key, b"new") for key in words[1:] if key == b"k") + b"END\r\n"
        self.changed = True
        return close()


SET = storage(b"set", b"k", b"new")


@pytest.mark.parametrize(
    "read, change, miss",
    [
        (b"get k\r\n", SET, b"END\r\n"),
        (b"gets k\r\n", SET, b"END\r\n"),
        (b"get a k b\r\n", SET, b"END\r\n"),
        (b"get k\r\n", storage(b"append", b"k", b"new"), b"END\r\n"),
        (b"get k\r\n", b"incr k 1\r\n", b"END\r\n"),
        (b"get k\r\n", b"get other\r\n" + SET, b"END\r\n"),
        (b"mg k v\r\n", b"ms k 3\r\nnew\r\n", b"EN\r\n"),
        (b"mg k v\r\n", SET, b"EN\r\n"),
    ],
    ids=["get", "gets", "several_keys", "append", "incr", "with_another_between", "meta", "meta_then_text"],
)
def test_a_read_is_not_repeated_behind_a_change_of_its_key(scripted, proxy, read, change, miss):
    server = scripted(answer=ExecutesAndCloses().answer)
    front = proxy("-s", server.address, "--server-failure-limit", 1000)
    with front.talk() as talk:
        talk.send(read + change)
        assert talk.read_line() == miss
        if change.startswith(b"get"):
            assert talk.read_line() == b"END\r\n"
        assert talk.read_line().startswith(b"SERVER_ERROR ")
        talk.in_step()


def test_a_read_in_front_of_a_change_of_another_key_is_repeated(scripted, proxy):
    """As any read to which a server did not reply."""
    server = scripted(answer=ExecutesAndCloses().answer)
    front = proxy("-s", server.address, "--server-failure-limit", 1000)
    with front.talk() as talk:
        talk.expect(b"get k\r\n" + storage(b"set", b"other", b"new"), value(b"k", b"new") + b"END\r\n")
        assert talk.read_line().startswith(b"SERVER_ERROR ")
        talk.in_step()
