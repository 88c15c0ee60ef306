"""Users and passwords: of clients, in text and in binary, and those with which gmproxy logs in to servers."""

import os
import re

import pytest
from support.packets import ask, packet, read_answer, store
from support.scripted import expect, hang
from support.servers import Memcached, Proxy, run_here
from support.talk import storage
from support.timing import Stopwatch, eventually

from gmproxy.client.context import WRONG_PASSWORD_DELAY

USERS = b"one:secret\ntwo:other:word\n"
LOGIN = storage(b"set", b"any", b"one secret")
GET = b"get k\r\n"
NONE = b"get none\r\n"
END = b"END\r\n"
STORED = b"STORED\r\n"


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    return write(tmp_path_factory.mktemp("login") / "users", USERS)


def write(path, text):
    path.write_bytes(text)
    path.chmod(0o600)
    return str(path)


@pytest.fixture(scope="module")
def closed(users):
    """A proxy that requires a login."""
    with Memcached() as server, Proxy("-s", server.address, "--auth-file", users) as process:
        yield process
        process.check_log()


def that_asks(memcached, users):
    """A memcached that requires a login. It runs as this user: no other user can read the files of a test."""
    return memcached("-Y", users, *(["-u", "root"] if os.getuid() == 0 else []))


@pytest.fixture(scope="module")
def model(users):
    """A memcached with the behaviour that `closed` must have."""
    with that_asks(Memcached, users) as server:
        yield server


# -- clients in text, as memcached -Y does it


#: Each has one line as its reply.
SAID = [
    [LOGIN, NONE],
    [NONE, b"version\r\n", b"quit\r\n", b"\r\n", b"mn\r\n", b"stats\r\n"],
    [storage(b"set", b"k", b"one Secret"), NONE, LOGIN, NONE],
    [
        storage(b"set", b"k", b"one"),
        storage(b"set", b"k", b""),
        storage(b"set", b"k", b"none secret"),
        b"add k 0 0 10\r\n",
        b"one secret\r\n",
    ],
    [b"set k 0 0 10\r\none secretXX", NONE, LOGIN, NONE],
    [b"set k 0 0 x\r\n", b"set k 0 0\r\n", b"set k 0 0 -1\r\n", b"SET k 0 0 10\r\n", b"one secret\r\n"],
    [b"  set   any  x y 13 noreply\r\n one   secret\r\n", NONE],
    [storage(b"set", b"k", b"two other:word"), storage(b"set", b"k", b"one secret"), NONE],
    [storage(b"set", b"k", b"one secret more"), NONE],
    [LOGIN.replace(b"\r\n", b"\n", 1), NONE],
]


@pytest.mark.parametrize("said", SAID, ids=range(len(SAID)))
def test_in_text_as_memcached_does_it(model, closed, said):
    """In one packet, and byte by byte. memcached 1.6.18 receives the requests one after the other: of several it replies only to the last."""
    with model.talk() as talk:
        wanted = b"".join(map(talk.ask, said))
    with closed.talk() as one_by_one, closed.talk() as at_once:
        one_by_one.send_in_pieces(b"".join(said), 1)
        at_once.send(b"".join(said))
        for talk in (one_by_one, at_once):
            talk.expect_answer(wanted, b"".join(said))
            assert talk.silent()


def test_after_it_everything_works(closed):
    with closed.talk() as talk:
        talk.expect(LOGIN + storage(b"set", b"k", b"x") + GET, STORED * 2 + b"VALUE k 0 1\r\nx\r\n" + END)
        talk.in_step()


@pytest.mark.parametrize("said", [b"x" * 3000, b"set k 0 0 2049\r\n", b"set k 0 0 %s\r\n" % (b"9" * 9)])
def test_who_says_too_much_is_turned_out(closed, said):
    with closed.talk() as talk:
        talk.send(said)
        assert talk.closed()


# -- clients in binary


def plain(user, password, name="auth", mechanism=b"PLAIN", authorized=b""):
    return packet(name, mechanism, b"\0".join((authorized, user, password)))


def said_of(answers):
    return [(answer.name, answer.status, answer.value) for answer in answers]


WELCOME = ("auth", 0, b"Authenticated")


def test_sasl(closed):
    with closed.talk() as talk:
        assert said_of(ask_unknown(talk, packet("mechanisms"))) == [("mechanisms", 0, b"PLAIN")]
        assert said_of(ask_unknown(talk, plain(b"one", b"wrong"))) == [("auth", 0x20, b"Auth failure.")]
        assert said_of(ask(talk, plain(b"one", b"secret"))) == [WELCOME]
        assert said_of(ask(talk, store("setQ", b"k", b"x") + packet("get", b"k"))) == [("get", 0, b"x")]


def ask_unknown(talk, data):
    """Before the login `noop` gets no reply; `version` does."""
    talk.send(data + packet("version"))
    return [read_answer(talk), read_answer(talk)][:1]


def test_sasl_in_two_steps(closed):
    with closed.talk() as talk:
        assert said_of(ask_unknown(talk, packet("auth", b"PLAIN"))) == [("auth", 0x21, b"")]
        assert said_of(ask(talk, plain(b"two", b"other:word", "step", authorized=b"two"))) == [("step", 0, b"Authenticated")]


@pytest.mark.parametrize(
    "said",
    [
        plain(b"one", b""),
        plain(b"", b""),
        plain(b"one", b"secret", "step"),
        plain(b"one", b"secret", mechanism=b"CRAM-MD5"),
        packet("auth", b"PLAIN", b"one secret"),
        packet("auth", b"PLAIN", b"\0one\0secret\0"),
        packet("step", b"PLAIN"),
    ],
)
def test_sasl_refused(closed, said):
    with closed.talk() as talk:
        (answer,) = ask_unknown(talk, said)
        assert answer.status == 0x20
        assert said_of(ask(talk, plain(b"one", b"secret"))) == [WELCOME]


@pytest.mark.parametrize(
    "said", [packet("get", b"k"), store("setQ", b"k", b"x"), packet("noop"), packet("stat"), packet("flush"), packet(0x55)]
)
def test_who_is_unknown_can_run_nothing(closed, said):
    """As memcached -S, which closes the connection."""
    with closed.talk() as talk:
        talk.send(said + packet("noop"))
        assert read_answer(talk).status == 0x20
        assert talk.closed()


def test_who_fails_later_is_unknown_again(closed):
    with closed.talk() as talk:
        assert said_of(ask(talk, plain(b"one", b"secret"))) == [WELCOME]
        talk.send(plain(b"one", b"wrong") + packet("noop"))
        assert [read_answer(talk).status, read_answer(talk).status] == [0x20, 0x20]
        assert talk.closed()


def test_a_login_that_is_too_long(closed):
    with closed.talk() as talk:
        (answer,) = ask_unknown(talk, plain(b"one", b"x" * 5000))
        assert answer.status == 4
        assert said_of(ask(talk, plain(b"one", b"secret"))) == [WELCOME]


def test_without_users_there_is_no_login(memcached, proxy):
    with proxy("-s", memcached().address).talk() as talk:
        said = packet("mechanisms") + plain(b"one", b"secret")
        assert [answer.status for answer in ask(talk, said)] == [0x81, 0x81]


# -- the file


def test_a_file_that_everybody_can_read_is_refused(tmp_path):
    users = write(tmp_path / "users", USERS)
    os.chmod(users, 0o644)
    done = run_here("-s", "127.0.0.1:11211", "--auth-file", users, "-t")
    assert done.returncode == 2
    assert done.stderr == f"gmproxy: --auth-file: {users} must not be readable by others: chmod o-r {users}\n"


WRONG = storage(b"set", b"any", b"one hunter2")
REFUSED_IN_TEXT = b"CLIENT_ERROR authentication failure\r\n"


@pytest.mark.parametrize("speaks", ["text", "binary"])
def test_who_says_a_wrong_password_waits_and_nobody_else(closed, speaks):
    """It is counted and logged. The client gets one reply per second on a connection, also for requests that it sends ahead."""
    wrong = WRONG if speaks == "text" else packet("auth", b"PLAIN", b"\0one\0hunter2")
    earlier = closed.log()
    with closed.talk() as guesses, closed.talk() as knows:
        knows.expect(LOGIN, STORED)
        errors = auth_errors(knows)
        watch = Stopwatch()
        guesses.send(wrong * 2)
        knows.expect(LOGIN, STORED)
        knows.expect(NONE, END)
        assert guesses.silent(), "the others are answered first"
        for _ in range(2):
            if speaks == "text":
                guesses.expect_answer(REFUSED_IN_TEXT)
            else:
                assert read_answer(guesses).status == 0x20
        assert watch.seconds > 2 * 0.9 * WRONG_PASSWORD_DELAY
        assert auth_errors(knows) == errors + 2
    log = closed.log().removeprefix(earlier)
    assert log.count("WARNING wrong password client=127.0.0.1:") == 2
    assert "hunter2" not in log


def auth_errors(talk):
    return int(re.search(rb"STAT auth_errors (\d+)\r\n", talk.ask(b"stats\r\n", END))[1])


def test_who_leaves_before_it_hears_of_a_wrong_password(closed):
    """No descriptor is left."""
    earlier = closed.log()
    before = closed.descriptors()
    for _ in range(20):
        with closed.talk() as guesses:
            guesses.send(WRONG)
    eventually(lambda: closed.log().removeprefix(earlier).count("wrong password") == 20, what="all are heard")
    eventually(lambda: closed.descriptors() <= before, what="all are gone")


def test_no_password_is_printed(users, tmp_path):
    own = write(tmp_path / "own", b"me:mine\n")
    done = run_here("-s", "127.0.0.1:11211", "--auth-file", users, "--server-auth-file", own, "--print-config")
    assert f"auth_file = {users}\n" in done.stdout and f"server_auth_file = {own}\n" in done.stdout
    assert "secret" not in done.stdout and "mine" not in done.stdout


# -- servers


def test_servers_that_ask_who_we_are(memcached, proxy, users, tmp_path):
    """Primary and backup. They receive only the values of clients, and the log has no password."""
    servers = [that_asks(memcached, users) for _ in range(2)]
    own = write(tmp_path / "own", b"one:secret\n")
    front = proxy("-s", servers[0].address, "-b", servers[1].address, "--server-auth-file", own, "-v")
    with front.talk() as talk:
        talk.expect(storage(b"set", b"k", b"x") + GET, STORED + b"VALUE k 0 1\r\nx\r\n" + END)
    for server in servers:
        with server.talk() as talk:
            talk.expect(LOGIN, STORED)
            eventually(lambda: talk.ask(GET, END) == b"VALUE k 0 1\r\nx\r\n" + END)
            talk.expect(b"get login\r\n", END)
    assert "secret" not in front.log()


def test_a_server_that_does_not_ask_is_not_told(memcached, proxy, tmp_path):
    """It would store the password as an item."""
    server = memcached()
    own = write(tmp_path / "own", b"one:secret\n")
    with proxy("-s", server.address, "--server-auth-file", own).talk() as talk:
        talk.expect(storage(b"set", b"k", b"x"), STORED)
        talk.expect(b"get login k\r\n", b"VALUE k 0 1\r\nx\r\n" + END)


def test_a_server_that_does_not_let_us_in(memcached, proxy, users, tmp_path):
    server = that_asks(memcached, users)
    own = write(tmp_path / "own", b"one:wrong\n")
    front = proxy("-s", server.address, "--server-auth-file", own)
    with front.talk() as talk:
        talk.expect(storage(b"set", b"k", b"x"), b"SERVER_ERROR login %b\r\n" % server.address.encode())
        talk.in_step()
    assert "reason=login detail=\"the server replied b'CLIENT_ERROR authentication failure\\\\r\\\\n'\"" in front.log()


def test_a_server_that_asks_and_is_not_told(memcached, proxy, users):
    """Each of its replies would be taken for the reply to a different request."""
    server = that_asks(memcached, users)
    with proxy("-s", server.address).talk() as talk:
        talk.expect(GET, b"CLIENT_ERROR unauthenticated\r\n")


@pytest.mark.parametrize("script", [[expect(b"version\r\n"), hang()], [expect(b"version\r\n"), b"x" * 2000]], ids=["hangs", "babbles"])
def test_a_server_with_no_good_answer(scripted, proxy, tmp_path, script):
    own = write(tmp_path / "own", b"one:secret\n")
    server = scripted(script)
    front = proxy("-s", server.address, "--server-auth-file", own, "--connect-timeout", "100")
    with front.talk() as talk:
        reason = b"connecting" if len(script) == 2 and not isinstance(script[1], bytes) else b"login"
        talk.expect(storage(b"set", b"k", b"x"), b"SERVER_ERROR %b %b\r\n" % (reason, server.address.encode()))
        talk.in_step()
