"""A reply that is well formed and is not what the proxy expected: the client receives it, and the server is not ejected."""

import os

import pytest
from support.talk import storage, value

#: A memcached that is known to send such replies, if there is one.
NEWER = os.environ.get("GMPROXY_TEST_MEMCACHED", "")

#: So often that a server would be ejected if each reply counted as a failure.
OFTEN = 5

LIMIT = 3


@pytest.mark.parametrize(
    "asked, reply",
    [
        (b"mg k C5 v c\r\n", b"HD c5\r\n"),
        (b"mg k v\r\n", b"HD\r\n"),
        (b"mg k s v\r\n", b"HD s1\r\n"),
        (b"mg k v\r\n", b"CLIENT_ERROR invalid flag\r\n"),
        (b"mg k v\r\n", b"VA 1 W\r\nx\r\n"),
        (b"ms k 1 E5 c\r\nx\r\n", b"HD c5\r\n"),
        (b"md k v c\r\n", b"HD c5\r\n"),
    ],
    ids=["conditional_read", "no_value", "flag_without_value", "error", "flag_not_asked_for", "number_of_the_client", "delete"],
)
def test_it_never_ejects_the_server(scripted, proxy, asked, reply):
    """The connection may be closed if it may be out of step. The server is still used, also by all other clients."""

    def answer(request):
        return reply if request.startswith(asked[:2]) else value(b"other", b"hello") + b"END\r\n"

    server = scripted(answer=answer)
    front = proxy("-s", server.address, "--server-failure-limit", LIMIT)
    with front.talk() as talk, front.talk() as other:
        for _ in range(OFTEN):
            line = talk.ask(asked)
            if line.startswith(b"VA"):
                assert talk.read_line() == b"x\r\n"
            talk.in_step()
        for _ in range(OFTEN):
            other.expect(b"get other\r\n", value(b"other", b"hello") + b"END\r\n")
        other.in_step()
    assert front.stats()["backends_ejected"] == 0
    assert "ejected" not in front.log()


def test_a_conditional_read_is_answered_as_the_server_did(scripted, proxy):
    server = scripted(answer=lambda request: b"HD c5\r\n")
    front = proxy("-s", server.address, "--server-failure-limit", LIMIT)
    with front.talk() as talk:
        for _ in range(OFTEN):
            assert talk.ask(b"mg k C5 v c\r\n") == b"HD c5\r\n"
        talk.expect(b"mg k C5 v c\r\n" * OFTEN, b"HD c5\r\n" * OFTEN)
        talk.in_step()


@pytest.mark.skipif(not NEWER, reason="GMPROXY_TEST_MEMCACHED names no memcached")
@pytest.mark.parametrize("backup", [False, True], ids=["alone", "with_a_backup"])
def test_a_conditional_read_of_a_real_server(memcached, proxy, backup):
    server = memcached(program=NEWER)
    front = proxy("-s", server.address, "--server-failure-limit", LIMIT, *(("-b", memcached().address) if backup else ()))
    with front.talk() as talk, front.talk() as other:
        talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
        number = talk.ask(b"gets k\r\n", b"END\r\n").split()[4]
        for _ in range(OFTEN):
            assert talk.ask(b"mg k C%b v c\r\n" % number) == b"HD c%b\r\n" % number
        for _ in range(OFTEN):
            other.expect(b"get k\r\n", value(b"k", b"hello") + b"END\r\n")
        talk.in_step()
        other.in_step()
    assert front.stats()["backends_ejected"] == 0
