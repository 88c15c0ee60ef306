"""An item with a lifetime of more than 30 days: memcached reads a longer relative time as a date, so it is filled with its absolute expiry time."""

import time

import pytest
from support.talk import storage, value
from support.timing import eventually

DAY = 86400
LONGEST_RELATIVE = 30 * DAY

#: Seconds by which a lifetime may differ: the two servers and the test read their clocks at different times.
TOLERANCE = 60


@pytest.fixture
def emptied(memcached, proxy):
    """Call it with the expiry time (unix time) of k, whose value is 5. Returns the proxy and its primary, which was restarted and is empty."""

    def start(end, *options):
        primary, backup = memcached(), memcached()
        front = proxy("-s", primary.address, "-b", backup.address, "--server-failure-limit", 2, "--server-retry-timeout", "50", *options)
        with front.talk() as talk, backup.talk() as there:
            talk.expect(storage(b"set", b"k", b"5", flags=7, exptime=end), b"STORED\r\n")
            eventually(lambda: b"5" in there.ask(b"get k\r\n", b"END\r\n"), what="the copy has arrived")
            primary.restart()
            eventually(
                lambda: talk.ask(b"get other\r\n", b"END\r\n") and front.stats()["backends_ejected"] == 0, what="the primary is back"
            )
        return front, primary

    return start


def life_at(server):
    """The remaining seconds of k there, or None."""
    with server.talk() as talk:
        answer = talk.ask(b"mg k t\r\n")
    return int(answer.split(b"t")[1]) if answer.startswith(b"HD") else None


@pytest.mark.parametrize("life", [LONGEST_RELATIVE + 5 * DAY, 60 * DAY, 10 * 365 * DAY], ids=["35_days", "60_days", "10_years"])
@pytest.mark.parametrize(
    "asked, answer",
    [
        (b"get k\r\n", value(b"k", b"5", 7) + b"END\r\n"),
        (b"mg k v\r\n", b"VA 1\r\n5\r\n"),
        (b"incr k 1\r\n", b"6\r\n"),
        (storage(b"append", b"k", b"0"), b"STORED\r\n"),
        (storage(b"add", b"k", b"0"), b"NOT_STORED\r\n"),
    ],
    ids=["get", "mg", "incr", "append", "add"],
)
def test_it_is_filled_again_with_the_rest_of_its_life(emptied, life, asked, answer):
    front, primary = emptied(int(time.time()) + life)
    with front.talk() as talk:
        talk.expect(asked, answer)
        eventually(lambda: life_at(primary) is not None, what="the primary has it")
        assert abs(life_at(primary) - life) < TOLERANCE
        talk.in_step()


def test_a_life_at_the_limit(emptied):
    """Lifetimes of a little less than 30 days are sent as they are."""
    front, primary = emptied(int(time.time()) + LONGEST_RELATIVE - 5)
    with front.talk() as talk:
        talk.expect(b"incr k 1\r\n", b"6\r\n")
        assert abs(life_at(primary) - LONGEST_RELATIVE) < TOLERANCE
        talk.in_step()
