"""Meta commands over scripted servers: which server receives what, with and without q, failing, replicated and filled."""

import base64

import pytest
from support.columns import Stage, cases
from support.scripted import close, drip, expect
from support.talk import storage, value

MISS = b"EN\r\n"
FOUND = b"VA 5 f7 t90\r\nhello\r\n"
STORE = b"ms k 5 T9\r\nhello\r\n"
STORED = b"HD\r\n"


@pytest.fixture(scope="module")
def alone():
    with Stage() as stage:
        yield stage


@cases(
    # name                      client sends                   server gets     server replies              client gets
    ("get", b"mg k v f t\r\n", b"mg k v f t\r\n", b"VA 2 f7 t-1\r\nhi\r\n", b"VA 2 f7 t-1\r\nhi\r\n"),
    ("get byte by byte", b"mg k v\r\n", b"mg k v\r\n", drip(b"VA 4\r\n\r\n\r\n\r\n"), b"VA 4\r\n\r\n\r\n\r\n"),
    ("get with opaque and key", b"mg k O1 k v\r\n", b"mg k O1 k v\r\n", b"VA 0 O1 kk W\r\n\r\n", b"VA 0 O1 kk W\r\n\r\n"),
    ("quiet get of nothing", b"mg k v q\r\nmn\r\n", b"mg k v\r\n", MISS, b"MN\r\n"),
    ("quiet set", b"ms k 5 q T9\r\nhello\r\nmn\r\n", STORE, STORED, b"MN\r\n"),
    ("quiet set that fails", b"ms k 5 q T9\r\nhello\r\nmn\r\n", STORE, b"NS\r\n", b"NS\r\nMN\r\n"),
    ("delete", b"md k\r\n", b"md k\r\n", b"NF\r\n", b"NF\r\n"),
    ("count", b"ma k v\r\n", b"ma k v\r\n", b"VA 2\r\n10\r\n", b"VA 2\r\n10\r\n"),
    ("debug", b"me k\r\n", b"me k\r\n", b"ME k exp=-1 la=0 cas=1\r\n", b"ME k exp=-1 la=0 cas=1\r\n"),
    ("an answer to another command", b"mg k v\r\n", b"mg k v\r\n", b"NS\r\n", MISS),
    ("a value that was not asked for", b"mg k O1\r\n", b"mg k O1\r\n", b"VA 1 O1\r\n1\r\n", b"EN O1\r\n"),
    ("a flag that was not asked for", b"mg k v\r\n", b"mg k v\r\n", b"VA 1 f0\r\n1\r\n", MISS),
    ("the key of another request", b"mg k v k\r\n", b"mg k v k\r\n", b"VA 1 kl\r\n1\r\n", b"EN kk\r\n"),
    ("the opaque of another request", b"mg k v O12\r\n", b"mg k v O12\r\n", b"VA 1 O1\r\n1\r\n", b"EN O12\r\n"),
    ("the key in base64", b"mg k v k\r\n", b"mg k v k\r\n", b"VA 1 kaw== b\r\n1\r\n", b"VA 1 kaw== b\r\n1\r\n"),
    ("a key in base64 as it is", b"mg aw== b v k\r\n", b"mg aw== b v k\r\n", b"VA 1 kk\r\n1\r\n", b"VA 1 kk\r\n1\r\n"),
    ("what the client has already", b"mg k C5 v c\r\n", b"mg k C5 v c\r\n", b"HD c5\r\n", b"HD c5\r\n"),
    ("a flag that nobody knows", b"mg k Y v\r\n", b"mg k Y v\r\n", b"HD c5 Y1\r\n", b"HD c5 Y1\r\n"),
    ("an answer with such a flag", b"mg k v\r\n", b"mg k v\r\n", b"VA 1 Y1\r\n1\r\n", b"VA 1 Y1\r\n1\r\n"),
    ("numbers are written plainly", b"ms k 5 T+9\r\nhello\r\n", STORE, STORED, STORED),
    ("closed in the middle", b"mg k v k\r\n", b"mg k v k\r\n", [b"VA 5 kk\r\nhel", close()], b"EN kk\r\n"),
    ("a failure is told to who is quiet", b"ms k 5 q T9\r\nhello\r\n", STORE, [b"H", close()], b"SERVER_ERROR closed {server}\r\n"),
    ("a failed debug", b"me k\r\n", b"me k\r\n", b"garbage\r\n", MISS),
)
def test_one_server(alone, case):
    alone.play(case)
    alone.check()


def test_a_server_that_takes_the_data_block_for_commands_is_not_asked_again(alone):
    """The server is too old for ms."""
    alone.set([[expect(STORE), b"ERROR\r\n"]])
    with alone.proxy.talk() as talk:
        talk.expect(STORE, b"ERROR\r\n")
        talk.in_step()
    alone.check()


def test_a_lost_link_may_be_asked_again_unless_the_answer_would_be_another(alone):
    alone.set([[expect(b"mg k v\r\n"), close()], [expect(b"mg k v\r\n"), b"VA 1\r\n1\r\n"]])
    with alone.proxy.talk() as talk:
        talk.expect(b"mg k v\r\n", b"VA 1\r\n1\r\n")
        alone.set([[expect(b"mg k R30\r\n"), close()]])
        talk.expect(b"mg k R30\r\n", MISS)
        talk.in_step()
    alone.check()


# -- a backup


@pytest.fixture(scope="module")
def stage():
    with Stage("--on-miss", "never", backups=1) as stage:
        yield stage


@pytest.fixture(scope="module")
def warming():
    with Stage("--on-miss", "always", backups=1) as stage:
        yield stage


@pytest.mark.parametrize(
    "sent, answer, copy",
    [
        (STORE, STORED, STORE),
        (b"ms k 1 MA\r\nx\r\n", b"NS\r\n", b"ms k 1 MA\r\nx\r\n"),
        (b"md k\r\n", STORED, b"md k\r\n"),
        (b"ma k N0 J5 v\r\n", b"VA 1\r\n5\r\n", b"ma k N0 J5 v\r\n"),
        (b"mg k v T9\r\n", b"VA 1\r\n1\r\n", b"mg k T9\r\n"),
        (b"ms k 1 ME c\r\nx\r\n", b"HD c5\r\n", b"ms k 1\r\nx\r\n"),
        (b"md k C5\r\n", STORED, b"md k\r\n"),
    ],
)
def test_the_backup_hears_of_changes(stage, talk, sent, answer, copy):
    reply = answer if copy == sent else STORED
    stage.set([[expect(sent), answer]], [[expect(copy), reply]])
    talk.expect(sent, answer)


@pytest.mark.parametrize("sent, answer", [(b"ms k 1 ME\r\nx\r\n", b"NS\r\n"), (b"md k C5\r\n", b"EX\r\n"), (b"mg k R30\r\n", b"HD Z\r\n")])
def test_but_not_of_what_changed_nothing(stage, talk, sent, answer):
    stage.set([[expect(sent), answer]])
    talk.expect(sent, answer)


@pytest.mark.parametrize(
    "sent, answer",
    [
        (b"mg k v k\r\n", b"VA 1 kk\r\n1\r\n"),
        (STORE, STORED),
        (b"ms k 1 ME\r\nx\r\n", b"NS\r\n"),
        (b"ma k v\r\n", b"VA 1\r\n2\r\n"),
    ],
)
def test_the_backup_answers_for_a_primary_that_is_down(stage, talk, sent, answer):
    stage.set([], [[expect(sent), answer]])
    stage.backends[0].refuse()
    talk.expect(sent, answer)


# -- a primary that was restarted empty


@pytest.fixture
def client(warming):
    with warming.proxy.talk() as talk:
        yield talk
        talk.in_step()
    warming.check()


def test_the_backups_answer_goes_to_the_client_and_its_value_to_the_primary(warming, client):
    refill = storage(b"add", b"k", b"hello", flags=7, exptime=90)
    warming.set(
        [[expect(b"mg k s c v O1\r\n"), b"EN O1\r\n", expect(refill), b"STORED\r\n"]],
        [[expect(b"mg k s c v O1\r\n"), b"VA 5 s5 c12 O1\r\nhello\r\n", expect(b"mg k f t v\r\n"), FOUND]],
    )
    client.expect(b"mg k s c v O1\r\n", b"VA 5 s5 c%d O1\r\nhello\r\n" % ((1 << 56) + 12))
    warming.backends[0].wait_until_seen(refill)


def test_a_key_in_base64_is_refilled_as_one(warming, client):
    refill = storage(b"add", b"foo", b"hello", flags=7)
    warming.set(
        [[expect(b"mg Zm9v k b\r\n"), b"EN kZm9v b\r\n", expect(refill), b"STORED\r\n"]],
        [[expect(b"mg Zm9v k b\r\n"), b"HD kZm9v b\r\n", expect(b"mg foo f t v\r\n"), b"VA 5 f7 t-1\r\nhello\r\n"]],
    )
    client.expect(b"mg Zm9v k b\r\n", b"HD kZm9v b\r\n")
    warming.backends[0].wait_until_seen(refill)


@pytest.mark.parametrize("says", [MISS, [b"VA", close()], b"garbage\r\n"], ids=["neither has it", "close", "garbage"])
def test_a_miss_stays_a_miss(warming, client, says):
    warming.set([[expect(b"mg k v\r\n"), MISS]], [[expect(b"mg k v\r\n"), *([says] if isinstance(says, bytes) else says)]])
    client.expect(b"mg k v\r\n", MISS)


def test_a_quiet_miss_is_refilled_too(warming, client):
    warming.set([[expect(b"mg k v\r\n"), MISS]], [[expect(b"mg k v\r\n"), MISS]])
    client.expect(b"mg k v q\r\nmn\r\n", b"MN\r\n")


# -- real servers


def test_a_key_has_one_place_however_it_is_written(memcached, proxy):
    servers = [memcached() for _ in range(3)]
    keys = [b"key%02d" % number for number in range(20)]
    with proxy(*(part for server in servers for part in ("-s", server.address))).talk() as talk:
        for key in keys:
            talk.expect(b"ms %b 2 b\r\nhi\r\n" % base64.b64encode(key), STORED)
            talk.expect(b"get %b\r\n" % key, value(key, b"hi") + b"END\r\n")
        assert all(server.stats()["curr_items"] for server in servers)
