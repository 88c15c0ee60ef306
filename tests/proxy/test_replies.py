"""What a server replies, valid or not, and what the client receives. After an invalid reply the connection is never used again."""

import pytest
from support.columns import Stage, cases
from support.scripted import close, drip, expect, reset
from support.talk import storage, value
from support.timing import eventually

SET = storage(b"set", b"k", b"hello")
INCR = b"incr k 1\r\n"
GET = b"get k\r\n"
FOUND = value(b"k", b"hello") + b"END\r\n"
MISS = b"END\r\n"
BINARY = bytes(range(256)) + b"\r\nEND\r\nVALUE k 0 1\r\n"


@pytest.fixture(scope="module")
def stage():
    with Stage() as stage:
        yield stage


@cases(
    # name                      client sends                   server gets     server replies              client gets
    ("get", GET, GET, FOUND, FOUND),
    ("get nothing", GET, GET, MISS, MISS),
    ("get an empty value", GET, GET, b"VALUE k 0 0\r\n\r\nEND\r\n", b"VALUE k 0 0\r\n\r\nEND\r\n"),
    ("get any bytes", GET, GET, value(b"k", BINARY) + MISS, value(b"k", BINARY) + MISS),
    ("get with flags", GET, GET, value(b"k", b"x", 2**32 - 1) + MISS, value(b"k", b"x", 2**32 - 1) + MISS),
    (
        "gets",
        b"gets k\r\n",
        b"gets k\r\n",
        b"VALUE k 0 1 18446744073709551615\r\nx\r\nEND\r\n",
        b"VALUE k 0 1 18446744073709551615\r\nx\r\nEND\r\n",
    ),
    (
        "get several",
        b"get a b c\r\n",
        b"get a b c\r\n",
        value(b"a", b"1") + value(b"c", b"") + MISS,
        value(b"a", b"1") + value(b"c", b"") + MISS,
    ),
    ("get twice the same", b"get a a\r\n", b"get a a\r\n", value(b"a", b"1") * 2 + MISS, value(b"a", b"1") * 2 + MISS),
    ("gat", b"gat 10 k\r\n", b"gat 10 k\r\n", FOUND, FOUND),
    ("set", SET, SET, b"STORED\r\n", b"STORED\r\n"),
    ("set any bytes", storage(b"set", b"k", BINARY), storage(b"set", b"k", BINARY), b"STORED\r\n", b"STORED\r\n"),
    ("add", storage(b"add", b"k", b"x"), storage(b"add", b"k", b"x"), b"NOT_STORED\r\n", b"NOT_STORED\r\n"),
    ("cas", storage(b"cas", b"k", b"x", more=b" 7"), storage(b"cas", b"k", b"x", more=b" 7"), b"EXISTS\r\n", b"EXISTS\r\n"),
    ("incr", INCR, INCR, b"18446744073709551615\r\n", b"18446744073709551615\r\n"),
    (
        "incr a word",
        INCR,
        INCR,
        b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
        b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
    ),
    ("delete", b"delete k\r\n", b"delete k\r\n", b"DELETED\r\n", b"DELETED\r\n"),
    ("delete a key that is called noreply", b"delete noreply\r\nmn\r\n", b"delete noreply 0\r\n", b"DELETED\r\n", b"MN\r\n"),
    ("delete as of old", b"delete k 0\r\n", b"delete k\r\n", b"NOT_FOUND\r\n", b"NOT_FOUND\r\n"),
    ("touch", b"touch k 10\r\n", b"touch k 10\r\n", b"TOUCHED\r\n", b"TOUCHED\r\n"),
    ("flush_all", b"flush_all\r\n", b"flush_all\r\n", b"OK\r\n", b"OK\r\n"),
    ("server without memory", SET, SET, b"SERVER_ERROR out of memory storing object\r\n", b"SERVER_ERROR out of memory storing object\r\n"),
    (
        "server cannot read",
        GET,
        GET,
        b"SERVER_ERROR out of memory writing get response\r\n",
        b"SERVER_ERROR out of memory writing get response\r\n",
    ),
    (
        "values byte by byte",
        b"get a b\r\n",
        b"get a b\r\n",
        drip(value(b"a", b"1\r\n2") + value(b"b", b"") + MISS),
        value(b"a", b"1\r\n2") + value(b"b", b"") + MISS,
    ),
    ("line byte by byte", SET, SET, drip(b"STORED\r\n"), b"STORED\r\n"),
    ("blanks are taken out", b"get   k  \r\n", GET, MISS, MISS),
    ("a bare line feed is enough", b"get k\n", GET, MISS, MISS),
)
def test_a_good_answer_is_handed_on_as_it_is(stage, case):
    stage.play(case)
    stage.check()


@cases(
    # name                      client sends     server gets   server replies                            client gets
    ("short then closed", GET, GET, [b"VALUE k 0 5\r\nhel", close()], MISS),
    ("values then closed", GET, GET, [value(b"k", b"hello"), close()], MISS),
    ("short then reset", GET, GET, [b"VALUE k 0 5\r\nhel", reset()], MISS),
    ("garbage", GET, GET, b"garbage\r\n", MISS),
    ("no carriage return", GET, GET, b"END\n", MISS),
    ("an empty line", GET, GET, b"\r\n", MISS),
    ("no line end in sight", GET, GET, b"x" * 9000, MISS),
    ("zero bytes", GET, GET, bytes(10_000), MISS),
    ("wrong key", GET, GET, value(b"other", b"hello") + MISS, MISS),
    ("longer key", GET, GET, value(b"kk", b"hello") + MISS, MISS),
    ("key that was not asked", b"get a b\r\n", b"get a b\r\n", value(b"a", b"1") + value(b"c", b"1") + MISS, MISS),
    ("keys in another order", b"get a b\r\n", b"get a b\r\n", value(b"b", b"1") + value(b"a", b"1") + MISS, MISS),
    ("one value twice", GET, GET, value(b"k", b"1") + value(b"k", b"2") + MISS, MISS),
    ("length too small", GET, GET, b"VALUE k 0 3\r\nhello\r\nEND\r\n", MISS),
    ("length too large", GET, GET, b"VALUE k 0 7\r\nhello\r\nEND\r\n", MISS),
    ("no line end after the data", GET, GET, b"VALUE k 0 5\r\nhelloXXEND\r\n", MISS),
    ("length is a word", GET, GET, b"VALUE k 0 five\r\nhello\r\nEND\r\n", MISS),
    ("length is negative", GET, GET, b"VALUE k 0 -5\r\nhello\r\nEND\r\n", MISS),
    ("length has a sign", GET, GET, b"VALUE k 0 +5\r\nhello\r\nEND\r\n", MISS),
    ("length has an underscore", GET, GET, b"VALUE k 0 0_5\r\nhello\r\nEND\r\n", MISS),
    ("length is endless", GET, GET, b"VALUE k 0 " + b"9" * 40 + b"\r\nhello\r\nEND\r\n", MISS),
    ("no length", GET, GET, b"VALUE k 0\r\nhello\r\nEND\r\n", MISS),
    ("no flags", GET, GET, b"VALUE k\r\nhello\r\nEND\r\n", MISS),
    ("the answer to a set", GET, GET, b"STORED\r\n", MISS),
    ("the answer to an incr", GET, GET, b"5\r\n", MISS),
    ("garbage to a set", SET, SET, b"garbage\r\n", b"SERVER_ERROR protocol {server}\r\n"),
    ("END to a set", SET, SET, MISS, b"SERVER_ERROR protocol {server}\r\n"),
    ("values to a set", SET, SET, FOUND, b"SERVER_ERROR protocol {server}\r\n"),
    ("almost STORED", SET, SET, b"STORED \r\n", b"SERVER_ERROR protocol {server}\r\n"),
    ("STORED and a bare line feed", SET, SET, b"STORED\n", b"SERVER_ERROR protocol {server}\r\n"),
    ("half a line to a set then closed", SET, SET, [b"STO", close()], b"SERVER_ERROR closed {server}\r\n"),
    ("a word to an incr", INCR, INCR, b"five\r\n", b"SERVER_ERROR protocol {server}\r\n"),
    ("a negative number to an incr", INCR, INCR, b"-5\r\n", b"SERVER_ERROR protocol {server}\r\n"),
    ("STORED to an incr", INCR, INCR, b"STORED\r\n", b"SERVER_ERROR protocol {server}\r\n"),
    ("TOUCHED to a delete", b"delete k\r\n", b"delete k\r\n", b"TOUCHED\r\n", b"SERVER_ERROR protocol {server}\r\n"),
    ("STORED to a flush_all", b"flush_all\r\n", b"flush_all\r\n", b"STORED\r\n", b"SERVER_ERROR protocol {server}\r\n"),
    # Here the reply is complete and forwarded. The bytes after it belong to no request.
    ("left over after values", GET, GET, FOUND + b"left over", FOUND),
    ("an END too much", GET, GET, FOUND + MISS, FOUND),
    ("left over after a line", SET, SET, b"STORED\r\nSTORED\r\n", b"STORED\r\n"),
    # If memcached refuses a set with these lines, it may have refused it before its data block, and then reads that as commands.
    ("set is an unknown command", SET, SET, b"ERROR\r\n", b"ERROR\r\n"),
    ("set is a bad chunk", SET, SET, b"CLIENT_ERROR bad data chunk\r\n", b"CLIENT_ERROR bad data chunk\r\n"),
)
def test_a_bad_answer_costs_the_link_and_no_more(stage, case):
    stage.play(case, [expect(b"get next\r\n"), value(b"next", b"!") + MISS])
    eventually(lambda: stage.proxy.stats()["backends_behind"] == 0, what="keys that may be stale are deleted on the server")
    with stage.proxy.talk() as talk:
        talk.expect(b"get next\r\n", value(b"next", b"!") + MISS)
        talk.in_step()
    stage.check()
