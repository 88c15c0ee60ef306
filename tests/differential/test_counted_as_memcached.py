"""gmproxy counts the commands of clients as memcached does: the test compares `stats` before and after each request."""

import re

import pytest
from support.servers import MEMCACHED, OTHER_MEMCACHED
from support.talk import storage

COUNTED = ("cmd_", "get_hits", "get_misses", "delete_", "incr_", "decr_", "cas_", "touch_")

#: Requests. Each is sent after the complete reply to the one before. CAS is replaced by the item's cas number.
REQUESTS = [
    storage(b"set", b"n", b"5"),
    b"get n\r\n",
    b"get n x y\r\n",
    b"gets x\r\n",
    b"gat 0 n x\r\n",
    b"gats 0 n\r\n",
    b"touch n 0\r\n",
    b"touch x 0\r\n",
    b"incr n 1\r\n",
    b"incr x 1\r\n",
    b"decr n 1\r\n",
    b"decr x 1\r\n",
    storage(b"set", b"s", b"a"),
    b"incr s 1\r\n",
    storage(b"add", b"n", b"1"),
    storage(b"add", b"q", b"1"),
    storage(b"replace", b"x", b"1"),
    storage(b"append", b"x", b"1"),
    storage(b"append", b"n", b"1"),
    storage(b"cas", b"n", b"1", more=b" 1"),
    storage(b"cas", b"x", b"1", more=b" 1"),
    storage(b"cas", b"n", b"1", more=b" CAS"),
    b"delete q\r\n",
    b"delete x\r\n",
    b"mg n v\r\n",
    b"mg x v\r\n",
    b"mg n v T0\r\n",
    b"mg x v T0\r\n",
    b"ms n 1\r\n5\r\n",
    b"ms n 1 ME\r\n1\r\n",
    b"ms n 1 C1\r\n1\r\n",
    b"ms x 1 C1\r\n1\r\n",
    b"ms n 1 CCAS\r\n1\r\n",
    b"ma n\r\n",
    b"ma x\r\n",
    b"ma n MD\r\n",
    b"ma x MD v\r\n",
    b"md n\r\n",
    b"md x\r\n",
    b"me n\r\n",
    b"mn\r\n",
    b"flush_all\r\n",
    b"version\r\n",
    b"nonsense\r\n",
]


def counts(server):
    return {name: number for name, number in server.stats().items() if name.startswith(COUNTED)}


def answered(talk, request):
    talk.send(request + b"mn\r\n")
    talk.read_until(b"MN\r\n")
    if request == b"mn\r\n":
        talk.read_until(b"MN\r\n")


def differences(server):
    """For each of REQUESTS, its first bytes and {counter of `server`: its increase}."""
    found = []
    with server.talk() as talk:
        for request in REQUESTS:
            if b"CAS" in request:
                number = re.search(rb" (\d+)\r\n", talk.ask(b"gets n\r\n", b"END\r\n"))[1]
                request = request.replace(b"CAS", number)
            before = counts(server)
            answered(talk, request)
            after = counts(server)
            found.append(
                (request.partition(b"\r\n")[0][:12], {name: after[name] - before[name] for name in after if after[name] != before[name]})
            )
    return found


@pytest.mark.parametrize("program", [MEMCACHED, OTHER_MEMCACHED], ids=["this", "another"])
def test_what_is_counted(memcached, proxy, program):
    if program is None:
        pytest.skip("GMPROXY_TEST_MEMCACHED names no other memcached")
    servers = [memcached(program=program) for _ in range(2)]
    process = proxy("-s", servers[0].address, "-s", servers[1].address, "--hash", "crc32")
    alone = memcached(program=program)
    for ours, theirs in zip(differences(process), differences(alone)):
        assert ours == theirs


def test_logins_are_counted(memcached, proxy, tmp_path):
    users = tmp_path / "users"
    users.write_text("one:secret\n")
    users.chmod(0o600)
    process = proxy("-s", memcached().address, "--auth-file", users)
    with process.talk() as talk:
        talk.expect(storage(b"set", b"x", b"one wrong"), b"CLIENT_ERROR authentication failure\r\n")
        talk.expect(storage(b"set", b"x", b"one secret") + b"get x\r\n", b"STORED\r\nEND\r\n")
        told = talk.ask(b"stats proxy\r\n", b"END\r\n")
    assert b"STAT auth_cmds 2\r\n" in told and b"STAT auth_errors 1\r\n" in told
