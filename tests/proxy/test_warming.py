"""A primary whose memory may lack keys: its misses are looked up on the backup, and it is filled from there."""

from contextlib import ExitStack

import pytest
from support.columns import NEVER_EJECT, Stage
from support.scripted import close, expect, hang, refused_port
from support.servers import HOST
from support.talk import storage, value
from support.timing import TICK, Stopwatch, eventually, milliseconds

GET = b"get k\r\n"
MISS = b"END\r\n"
FOUND = value(b"k", b"hello", 7) + MISS
META = b"mg k f t v\r\n"
META_FOUND = b"VA 5 f7 t90\r\nhello\r\n"
META_MISS = b"EN\r\n"
REFILL = storage(b"add", b"k", b"hello", flags=7, exptime=90)
TIMEOUT = 6


@pytest.fixture(scope="module")
def stage():
    with Stage("--timeout", milliseconds(TIMEOUT), "--on-miss", "always", "--refill-ttl", "33", backups=1) as stage:
        yield stage


def test_the_backups_value_goes_to_the_client_and_to_the_primary(stage, talk):
    stage.set([[expect(GET), MISS, expect(REFILL), b"STORED\r\n"]], [[expect(META), META_FOUND]])
    talk.expect(GET, FOUND)
    stage.backends[0].wait_until_seen(REFILL)


def test_an_item_without_end_is_refilled_without_end(stage, talk):
    refill = storage(b"add", b"k", b"hello", flags=7)
    stage.set([[expect(GET), MISS, expect(refill), b"STORED\r\n"]], [[expect(META), b"VA 5 f7 t-1\r\nhello\r\n"]])
    talk.expect(GET, FOUND)
    stage.backends[0].wait_until_seen(refill)


def test_a_hit_concerns_nobody_else(stage, talk):
    stage.set([[expect(GET), FOUND]])
    talk.expect(GET, FOUND)


def test_neither_has_it(stage, talk):
    stage.set([[expect(GET), MISS]], [[expect(META), META_MISS]])
    talk.expect(GET, MISS)


def test_of_several_keys_only_the_missing_are_looked_up(stage, talk):
    stage.set(
        [[expect(b"get a k z\r\n"), value(b"a", b"1") + MISS, expect(REFILL), b"STORED\r\n"]],
        [[expect(META), expect(b"mg z f t v\r\n"), META_FOUND + META_MISS]],
    )
    talk.expect(b"get a k z\r\n", value(b"a", b"1") + value(b"k", b"hello", 7) + MISS)


def test_a_gets_from_the_backup_has_the_marked_number_of_the_backup(stage, talk):
    found = META_FOUND.replace(b"\r\n", b" c12\r\n", 1)
    stage.set([[expect(b"gets k\r\n"), MISS, expect(REFILL), b"STORED\r\n"]], [[expect(b"mg k f t c v\r\n"), found]])
    talk.expect(b"gets k\r\n", b"VALUE k 7 5 %d\r\nhello\r\n" % ((1 << 56) + 12) + MISS)


def test_a_backup_that_knows_no_meta_commands(stage, talk):
    refill = storage(b"add", b"k", b"hello", flags=7, exptime=33)
    stage.set(
        [[expect(GET), MISS, expect(refill), b"STORED\r\n"]],
        [[expect(META), b"ERROR\r\n", expect(GET), FOUND]],
    )
    talk.expect(GET, FOUND)


@pytest.mark.parametrize("trouble, times", [(close(), 2), (hang(), 1), (b"garbage\r\n", 1)], ids=["close", "hang", "garbage"])
def test_a_backup_that_fails_leaves_the_miss(stage, talk, trouble, times):
    stage.set([[expect(GET), MISS]], [[expect(META), trouble]] * times)
    talk.expect(GET, MISS)


def test_a_refill_that_fails_is_not_the_clients_trouble(stage, talk):
    stage.set([[expect(GET), MISS, expect(REFILL), b"SERVER_ERROR out of memory storing object\r\n"]], [[expect(META), META_FOUND]])
    talk.expect(GET, FOUND)


def test_an_error_of_the_primary_is_no_miss(stage, talk):
    error = b"SERVER_ERROR out of memory writing get response\r\n"
    stage.set([[expect(GET), error]])
    talk.expect(GET, error)


# -- when a miss is final


@pytest.mark.parametrize("uptime, looked_up", [(5, True), (100_000, False)])
def test_a_server_is_warming_for_a_while_after_its_start(scripted, proxy, uptime, looked_up):
    answers = {b"get": MISS, b"add": b"STORED\r\n"}
    primary = scripted(answer=lambda request: answers[request.split()[0]], identity=(1, uptime))
    backup = scripted(answer=lambda request: META_FOUND)
    process = proxy("-s", primary.address, "-b", backup.address, "--warming-time", "60")
    with process.talk() as talk:
        wanted = FOUND if looked_up else MISS

        def answered_as_wanted():  # until the server has been identified, its misses are looked up on the backup
            answer = talk.ask(GET, MISS)
            talk.in_step()
            return answer == wanted

        eventually(answered_as_wanted)
        assert answered_as_wanted()


def test_the_first_miss_of_an_unknown_server_is_not_believed(scripted, proxy):
    """It has not replied yet how long it has run."""
    answers = {GET: MISS, REFILL: b"STORED\r\n"}
    primary = scripted(answer=lambda request: answers.get(request, hang()), identity=None)
    backup = scripted([expect(META), META_FOUND])
    with proxy("-s", primary.address, "-b", backup.address).talk() as talk:
        talk.expect(GET, FOUND)
        talk.in_step()
        primary.wait_until_seen(REFILL)


def test_a_server_that_does_not_say_who_it_is_works_and_does_not_flood_the_log(scripted, proxy):
    """A proxy behind the proxy, for example, may close the connection on which it receives stats."""
    primary = scripted(answer=lambda request: MISS if request == GET else close(), identity=None)
    process = proxy("-s", primary.address, "-b", f"{HOST}:{refused_port()}", *NEVER_EJECT)
    with process.talk() as talk:
        watch = Stopwatch()
        while watch.seconds < 20 * TICK:
            talk.expect(GET, MISS)
        talk.in_step()
    assert 1 <= process.log().count("not identified") <= 3


def test_a_server_that_does_not_say_who_it_is_is_never_believed(scripted, proxy):
    """Its connections are closed several times: each time it may be another process with an empty memory."""
    answers = {GET: MISS, REFILL: b"STORED\r\n"}
    primary = scripted(answer=lambda request: answers.get(request, close()), identity=None)
    backup = scripted(answer=lambda request: META_FOUND if request == META else FOUND)
    process = proxy("-s", primary.address, "-b", backup.address, "--timeout", milliseconds(TIMEOUT), *NEVER_EJECT)
    with process.talk() as talk:
        for _ in range(3):
            talk.expect(GET, FOUND)
            primary.drop()
            backup.drop()
            eventually(lambda: process.stats()["backend_links"] == 0)
            assert talk.silent(TIMEOUT * TICK)  # meanwhile the proxy checks its servers
        talk.in_step()


# -- writes that depend on the stored value, on a primary that has lost it


@pytest.fixture
def emptied(memcached, proxy):
    """Call it with keys and values. Returns a proxy whose primary has just lost them all, and the primary. Its backup still has them."""

    def start(**items):
        primary, backup = memcached(), memcached()
        front = proxy("-s", primary.address, "-b", backup.address, "--server-retry-timeout", milliseconds(4))
        with front.talk() as talk, backup.talk() as there:
            for key, data in items.items():
                talk.expect(storage(b"set", key.encode(), data, flags=7, exptime=100), b"STORED\r\n")
                eventually(lambda: data in there.ask(b"get %b\r\n" % key.encode(), MISS), what="the copy has arrived")
            primary.restart()
            eventually(lambda: talk.ask(b"get other\r\n", MISS) and front.stats()["backends_ejected"] == 0, what="the primary is back")
        return front, primary

    return start


@pytest.mark.parametrize(
    "asked, answer, left",
    [
        (b"incr k 1\r\n", b"6\r\n", b"6"),
        (b"decr k 1\r\n", b"4\r\n", b"4"),
        (storage(b"append", b"k", b"0"), b"STORED\r\n", b"50"),
        (storage(b"prepend", b"k", b"1"), b"STORED\r\n", b"15"),
        (storage(b"replace", b"k", b"x", flags=7), b"STORED\r\n", b"x"),
        (storage(b"add", b"k", b"x"), b"NOT_STORED\r\n", b"5"),
        (storage(b"cas", b"k", b"x", more=b" 1234567"), b"EXISTS\r\n", b"5"),
        (b"touch k 50\r\n", b"TOUCHED\r\n", b"5"),
        (b"gat 50 k\r\n", value(b"k", b"5", 7) + MISS, b"5"),
        (b"delete k\r\n", b"DELETED\r\n", None),
    ],
    ids=lambda part: part.split()[0].decode() if part and b" " in part else None,
)
def test_it_finds_what_it_would_have_found(emptied, asked, answer, left):
    front, primary = emptied(k=b"5")
    with front.talk() as talk, primary.talk() as there:
        if asked.startswith(b"delete"):
            talk.expect(b"gat 100 k\r\n", value(b"k", b"5", 7) + MISS)
        talk.expect(asked, answer)
        expected = MISS if left is None else value(b"k", left, 7) + MISS
        talk.expect(GET, expected)
        eventually(lambda: there.ask(GET, MISS) == expected, what="the primary has it")
        if left is not None:
            life = int(there.ask(b"mg k t\r\n").split(b"t")[1])
            assert (0 < life <= 50) if b" 50" in asked[:11] else life == -1 if asked.startswith(b"replace") else 50 < life <= 100
        talk.in_step()


def test_a_cas_after_a_value_from_the_backup_reads_again(emptied):
    front, _ = emptied(k=b"5")
    with front.talk() as talk:
        numbers = []
        for answer in (b"EXISTS\r\n", b"STORED\r\n"):
            numbers.append(talk.ask(b"gets k\r\n", MISS).split()[4])
            talk.expect(storage(b"cas", b"k", b"x", more=b" " + numbers[-1]), answer)
        assert numbers[0] != numbers[1]
        talk.in_step()


def test_in_one_packet(emptied):
    """No request overtakes one that waits for its key."""
    front, _ = emptied(k=b"5", l=b"9")
    with front.talk() as talk:
        talk.expect(
            b"incr k 1\r\nget k\r\nincr k 1\r\nget l k\r\n"
            + storage(b"add", b"k", b"x")
            + b"delete k\r\nincr k 1\r\n"
            + storage(b"add", b"k", b"1")
            + b"incr k 1\r\n",
            b"6\r\n"
            + value(b"k", b"6", 7)
            + MISS
            + b"7\r\n"
            + value(b"l", b"9", 7)
            + value(b"k", b"7", 7)
            + MISS
            + b"NOT_STORED\r\nDELETED\r\nNOT_FOUND\r\nSTORED\r\n2\r\n",
        )
        talk.in_step()


def test_a_lock_is_not_given_away_twice(emptied):
    """Several clients write one key at the same moment: what is filled for one of them is there for the others too."""
    clients = 20
    front, _ = emptied(lock=b"taken", count=b"0")
    with ExitStack() as stack:
        talks = [stack.enter_context(front.talk()) for _ in range(clients)]
        for talk in talks:
            talk.send(storage(b"add", b"lock", b"mine") + b"incr count 1\r\n")
        counts = []
        for talk in talks:
            talk.expect_answer(b"NOT_STORED\r\n")
            counts.append(int(talk.read_line()))
            talk.in_step()
    assert sorted(counts) == list(range(1, clients + 1))
    assert front.stats()["changes_undecided"] == front.stats()["fetches"] == 0
