"""Servers of the binary protocol, with SASL if it is installed: the client receives what a text server would reply, in its own protocol. The
replies to the usual commands are compared in tests/differential."""

import pytest
from support.columns import NEVER_EJECT
from support.keys import keys_by_server
from support.packets import ask, count, packet, store, touch
from support.scripted import expect, reset
from support.servers import SASLPASSWD, SaslMemcached, free_port, run
from support.talk import storage, value
from support.timing import eventually, milliseconds

BINARY = ("--backend-protocol", "binary")
GET = b"get k\r\n"
END = b"END\r\n"
STORED = b"STORED\r\n"
TIMEOUT = 6
OPTIONS = ("--timeout", milliseconds(TIMEOUT), "--connect-timeout", milliseconds(TIMEOUT), "--server-retry-timeout", milliseconds(TIMEOUT))

needs_sasl = pytest.mark.skipif(SASLPASSWD is None, reason="needs the package sasl2-bin")


def write(path, text):
    path.write_bytes(text)
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def sasl(tmp_path):
    """Call it for a new memcached -S. All of them are ended with the test."""
    started = []

    def start(*arguments):
        folder = tmp_path / f"server{len(started)}"
        folder.mkdir()
        started.append(SaslMemcached(folder, *arguments))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def own(tmp_path):
    """The file with the user and password of the servers."""
    return write(tmp_path / "own", b"%b:%b\n" % (SaslMemcached.USER, SaslMemcached.PASSWORD))


@pytest.fixture
def site(sasl, own, proxy):
    """(proxy, primaries, backup). All servers require a password."""
    primaries, backup = [sasl(), sasl()], sasl()
    servers = ("-s", primaries[0].address, "-s", primaries[1].address, "-b", backup.address)
    return proxy(*servers, *BINARY, *OPTIONS, "--server-auth-file", own, "-v"), primaries, backup


# -- behind SASL


@needs_sasl
def test_three_dialects_find_the_same_items(site):
    process, primaries, backup = site
    (first, *_), (second, *_) = keys_by_server(2, 1)
    with process.talk() as text, process.talk() as binary:
        text.expect(storage(b"set", first, b"\0\r\n", flags=7), STORED)
        assert ask(binary, packet("get", first))[0].value == b"\0\r\n"
        assert [answer.status for answer in ask(binary, store("set", second, b"5", 2**32 - 1) + touch("touch", second, 100))] == [0, 0]
        text.expect(b"get %b none %b\r\n" % (first, second), value(first, b"\0\r\n", 7) + value(second, b"5", 2**32 - 1) + END)
        text.expect(b"mg %b f v k\r\n" % second, b"VA 1 f4294967295 k%b\r\n5\r\n" % second)
        assert ask(binary, count("incr", second, 5))[0].value == bytes(7) + b"\x0a"
        assert ask(binary, store("set", b"a b", b"odd") + packet("getkQ", b"a b"))[1][4:6] == (b"a b", b"odd")
        text.expect(b"mg YSBi b v k\r\n", b"VA 3 kYSBi b\r\nodd\r\n")
        text.in_step()
    assert (primaries[0].value_of(first), primaries[1].value_of(first)) == (b"\0\r\n", None)
    eventually(lambda: backup.value_of(second) == b"10")
    eventually(lambda: process.stats().get("curr_items") == 3, what="the servers say how many items they have")


@needs_sasl
def test_the_number_of_a_value_is_the_servers_own(site):
    process, _, _ = site
    with process.talk() as talk:
        talk.expect(storage(b"set", b"k", b"1"), STORED)
        unique = talk.ask(b"gets k\r\n", END).split()[4]
        talk.expect(storage(b"cas", b"k", b"2", more=b" 1" + unique), b"EXISTS\r\n")
        talk.expect(storage(b"cas", b"k", b"2", more=b" " + unique), STORED)
        talk.expect(storage(b"cas", b"k", b"3", more=b" " + unique), b"EXISTS\r\n")
        talk.expect(storage(b"cas", b"none", b"3", more=b" " + unique), b"NOT_FOUND\r\n")
        talk.expect(storage(b"cas", b"k", b"3", more=b" 0"), b"EXISTS\r\n")
        talk.expect(GET, value(b"k", b"2") + END)


@needs_sasl
def test_no_password_is_told_to_anybody(site, own):
    process, _, _ = site
    with process.talk() as talk:
        talk.expect(storage(b"set", b"k", b"x"), STORED)
        assert "secret" not in talk.ask(b"stats settings\r\n", END).decode()
    assert "secret" not in process.log()
    printed = run("-s", "a:1", *BINARY, "--server-auth-file", own, "--print-config").stdout
    assert "backend_protocol = binary\n" in printed and "secret" not in printed


@needs_sasl
def test_a_primary_that_comes_back_empty_is_answered_for_and_filled_again(site):
    """No server of the binary protocol returns the remaining lifetime of an item."""
    process, primaries, backup = site
    (key, *_), _ = keys_by_server(2, 1)
    with process.talk() as talk:
        talk.expect(storage(b"set", key, b"5", flags=7), STORED)
        eventually(lambda: backup.value_of(key) == b"5")
        primaries[0].kill()
        talk.expect(b"get %b\r\n" % key, value(key, b"5", 7) + END)
        primaries[0].restart()
        eventually(lambda: process.stats()["backends_ejected"] == 0)

        def refilled():
            talk.expect(b"get %b\r\n" % key, value(key, b"5", 7) + END)
            return primaries[0].value_of(key) == b"5"

        eventually(refilled, what="the primary has it again")
        talk.expect(b"incr %b 1\r\n" % key, b"6\r\n")
    assert "backend warming" in process.log()


@needs_sasl
def test_what_a_primary_missed_is_deleted_there(site):
    """It kept its memory: it only did not reply for some time."""
    process, primaries, backup = site
    keys, _ = keys_by_server(2, 20)
    with process.talk() as talk:
        for key in keys:
            talk.expect(storage(b"set", key, b"old"), STORED)
        primaries[0].pause()
        for key in keys:
            talk.expect(storage(b"set", key, b"new"), STORED)
        primaries[0].resume()
        eventually(lambda: process.stats()["backends_ejected"] == process.stats()["journal_keys"] == 0)
        for key in keys:
            talk.expect(b"get %b\r\n" % key, value(key, b"new") + END)
        talk.expect(b"flush_all\r\n", b"OK\r\n")
        talk.expect(b"get %b\r\n" % b" ".join(keys), END)
    assert "backend caught up" in process.log()
    assert not any(server.value_of(keys[0]) for server in (primaries[0], backup))


@needs_sasl
def test_an_overflowed_journal_flushes_the_server(sasl, own, proxy):
    primary, backup = sasl(), sasl()
    process = proxy("-s", primary.address, "-b", backup.address, *BINARY, *OPTIONS, "--server-auth-file", own, "--journal-size", "2")
    with process.talk() as talk:
        talk.expect(storage(b"set", b"k", b"old"), STORED)
        primary.pause()
        for number in range(5):
            talk.expect(storage(b"set", b"key%d" % number, b"x"), STORED)
        primary.resume()
        eventually(lambda: process.stats()["journal_flushes"] == 1)
        eventually(lambda: primary.value_of(b"k") is None)


@needs_sasl
@pytest.mark.parametrize(
    "password, detail", [(b"wrong", "\"the server replied b'Auth failure.'\""), (None, "'the server requires authentication'")]
)
def test_a_server_that_does_not_let_us_in(sasl, proxy, tmp_path, password, detail):
    server = sasl()
    login = ("--server-auth-file", write(tmp_path / "own", b"one:" + password)) if password else ()
    front = proxy("-s", server.address, *BINARY, *login, "--server-failure-limit", "2", "-v")
    with front.talk() as talk:
        refused = b"SERVER_ERROR login %b\r\n" % server.address.encode()
        talk.expect(storage(b"set", b"k", b"x"), refused)
        talk.expect(b"get k\r\n", END)
        eventually(lambda: "backend ejected" in front.log(), what="it is counted as failing")
        talk.in_step()
    assert f"backend failed server={server.address} reason=login detail={detail} requests=1" in front.log()
    assert "wrong" not in front.log()


@needs_sasl
def test_a_server_that_is_asked_in_text_hangs_up(sasl, proxy):
    """It closes the connection once it has received as many bytes as the shortest packet has."""
    server = sasl()
    with proxy("-s", server.address, *NEVER_EJECT).talk() as talk:
        said = talk.ask(storage(b"set", b"k", bytes(50)))
        assert said in [b"SERVER_ERROR %b %b\r\n" % (reason, server.address.encode()) for reason in (b"closed", b"reset")]


def test_a_server_that_does_not_ask_is_not_told(memcached, proxy, own):
    with proxy("-s", memcached().address, *BINARY, "--server-auth-file", own).talk() as talk:
        talk.expect(storage(b"set", b"k", b"x") + GET, STORED + value(b"k", b"x") + END)


MECHANISMS = packet("mechanisms", opaque=bytes(4))


def answer(name, status=0, said=b""):
    packed = bytearray(packet(name, b"", said, opaque=bytes(4), magic=0x81))
    packed[6:8] = status.to_bytes(2, "big")
    return bytes(packed)


@pytest.mark.parametrize(
    "script, detail",
    [
        ([answer("mechanisms", said=b"CRAM-MD5 GSSAPI")], "the server does not support SASL PLAIN, only b'CRAM-MD5 GSSAPI'"),
        ([b"ERROR\r\n"], "not a packet of the binary protocol: b'ERROR"),
        ([answer("mechanisms", said=bytes(2000))], "the server replied b"),
    ],
)
def test_a_server_with_no_good_answer(scripted, proxy, own, script, detail):
    server = scripted([expect(MECHANISMS), *script])
    front = proxy("-s", server.address, *BINARY, "--server-auth-file", own, "--on-get-error", "error")
    with front.talk() as talk:
        talk.expect(GET, b"SERVER_ERROR login %b\r\n" % server.address.encode())
        talk.in_step()
    assert detail in front.log()


# -- without it


@pytest.fixture
def talk(memcached, proxy):
    servers = [memcached() for _ in range(2)]
    with proxy("-s", servers[0].address, "-s", servers[1].address, *BINARY, "-I", "4m").talk() as talk:
        yield talk
        talk.in_step()


SAYS_NO = b"CLIENT_ERROR the binary protocol of the server does not support "


@pytest.mark.parametrize(
    "sent, got",
    [
        (b"mg k t v\r\n", SAYS_NO + b"flag t of mg\r\n"),
        (b"mg k v N30\r\n", SAYS_NO + b"flag N of mg\r\n"),
        (b"mg k v R30 q\r\n", SAYS_NO + b"flag R of mg\r\n"),
        (b"ms k 1 I C1\r\nx\r\n", SAYS_NO + b"flag I of ms\r\n"),
        (b"ms k 1 MA N0\r\nx\r\n", SAYS_NO + b"flag N of ms\r\n"),
        (b"md k I\r\n", SAYS_NO + b"flag I of md\r\n"),
        (b"ma k T0\r\n", SAYS_NO + b"flag T of ma\r\n"),
        (b"me k\r\n", SAYS_NO + b"me\r\n"),
    ],
)
def test_what_cannot_be_said_is_answered_in_its_turn(talk, sent, got):
    talk.expect(storage(b"set", b"k", b"x") + sent + GET, STORED + got + value(b"k", b"x") + END)


def test_many_keys_at_once(talk):
    keys = [b"key%d" % number for number in range(3000)]
    for start in range(0, len(keys), 100):
        talk.expect(b"".join(storage(b"set", key, key) for key in keys[start : start + 100]), STORED * 100)
    talk.expect(b"get %b\r\n" % b" none ".join(keys), b"".join(value(key, key) for key in keys) + END)
    talk.expect(b"gat 100 %b\r\n" % b" none ".join(keys[:300]), b"".join(value(key, key) for key in keys[:300]) + END)


def test_a_value_too_large_for_the_server_takes_the_old_one_with_it(talk):
    large = bytes(2 * 1024 * 1024)
    talk.expect(storage(b"set", b"k", b"x"), STORED)
    for verb in (b"add", b"replace", b"append", b"set"):
        talk.expect(storage(verb, b"k", large), b"SERVER_ERROR object too large for cache\r\n")
    talk.expect(GET, END)


def test_a_large_value(talk):
    data = bytes(range(256)) * 4000
    talk.expect(storage(b"set", b"k", data) + GET, STORED + value(b"k", data) + END)


def test_noreply_and_quiet_ones_are_not_heard_of(talk):
    talk.expect(
        b"set k 0 0 1 noreply\r\n5\r\nincr k 1 noreply\r\ndelete none noreply\r\nmg none v q\r\nms k 1 q\r\n7\r\n" + GET,
        value(b"k", b"7") + END,
    )


def test_a_link_that_is_cut_is_opened_anew(scripted, proxy):
    """A get whose reply has not started is sent once more. A write is not, and its key is deleted as soon as possible."""
    get = packet("get", b"k", opaque=bytes(4))
    found = answer("get", said=b"x")
    change = store("set", b"k", b"y", opaque=bytes(3) + b"\1")
    delete = packet("delete", b"k", opaque=bytes(4))
    server = scripted([expect(get), reset()], [expect(get), found, expect(change), reset()], [expect(delete), answer("delete", 1)])
    with proxy("-s", server.address, *BINARY, *NEVER_EJECT).talk() as talk:
        talk.expect(GET, value(b"k", b"x") + END)
        talk.expect(storage(b"set", b"k", b"y"), b"SERVER_ERROR reset %b\r\n" % server.address.encode())
        server.wait_until_seen(delete)


def test_an_answer_to_something_else_ends_the_link(scripted, proxy):
    server = scripted([expect(packet("get", b"k", opaque=bytes(4))), answer("get", said=b"x")[:15] + b"\1" + answer("get", said=b"x")[16:]])
    front = proxy("-s", server.address, *BINARY, *NEVER_EJECT, "--on-get-error", "error")
    with front.talk() as talk:
        talk.expect(GET, b"SERVER_ERROR protocol %b\r\n" % server.address.encode())
    assert "reply with an unexpected opaque: 1" in front.log()


def test_a_pool_of_nutcracker_yml_may_be_binary(memcached, proxy, tmp_path):
    """Beside a pool of the text protocol."""
    servers, ports = [memcached(), memcached()], [free_port(), free_port()]
    pools = "".join(
        f"{name}:\n  listen: 127.0.0.1:{port}\n  servers:\n    - {server.address}:1\n{more}"
        for name, port, server, more in zip(("one", "two"), ports, servers, ("", "  backend_protocol: binary\n"))
    )
    (tmp_path / "nutcracker.yml").write_text(pools)
    process = proxy("-c", tmp_path / "nutcracker.yml", port=ports[1])
    with process.talk() as talk:
        talk.expect(b"me k\r\n", SAYS_NO + b"me\r\n")
        talk.expect(storage(b"set", b"k", b"x"), STORED)
    with servers[1].talk() as talk:
        talk.expect(GET, value(b"k", b"x") + END)
