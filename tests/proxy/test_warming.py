"""A primary whose memory may be empty: its misses are looked up on the backup, and it is filled again from there."""

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


def test_a_gets_from_the_backup_has_a_number_that_no_cas_will_match(stage, talk):
    stage.set([[expect(b"gets k\r\n"), MISS, expect(REFILL), b"STORED\r\n"]], [[expect(META), META_FOUND]])
    talk.expect(b"gets k\r\n", b"VALUE k 7 5 18446744073709551615\r\nhello\r\n" + MISS)


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


# -- when a miss is believed


@pytest.mark.parametrize("uptime, looked_up", [(5, True), (100_000, False)])
def test_a_server_is_warming_for_a_while_after_its_start(scripted, proxy, uptime, looked_up):
    answers = {b"get": MISS, b"add": b"STORED\r\n"}
    primary = scripted(answer=lambda request: answers[request.split()[0]], identity=(1, uptime))
    backup = scripted(answer=lambda request: META_FOUND)
    process = proxy("-s", primary.address, "-b", backup.address, "--warming-time", "60")
    with process.talk() as talk:
        wanted = FOUND if looked_up else MISS

        def answered_as_wanted():  # until the proxy has asked the server who it is, it does not believe a miss
            answer = talk.ask(GET, MISS)
            talk.in_step()
            return answer == wanted

        eventually(answered_as_wanted)
        assert answered_as_wanted()


def test_the_first_miss_of_an_unknown_server_is_not_believed(scripted, proxy):
    """It has not said yet how long it has run."""
    answers = {GET: MISS, REFILL: b"STORED\r\n"}
    primary = scripted(answer=lambda request: answers.get(request, hang()), identity=None)
    backup = scripted([expect(META), META_FOUND])
    with proxy("-s", primary.address, "-b", backup.address).talk() as talk:
        talk.expect(GET, FOUND)
        talk.in_step()
        primary.wait_until_seen(REFILL)


def test_a_server_that_does_not_say_who_it_is_works_and_does_not_flood_the_log(scripted, proxy):
    """A proxy behind the proxy, for example, may close the connection that asks for stats."""
    primary = scripted(answer=lambda request: MISS if request == GET else close(), identity=None)
    process = proxy("-s", primary.address, "-b", f"{HOST}:{refused_port()}", *NEVER_EJECT)
    with process.talk() as talk:
        watch = Stopwatch()
        while watch.seconds < 20 * TICK:
            talk.expect(GET, MISS)
        talk.in_step()
    assert 1 <= process.log().count("not identified") <= 3


def test_a_server_that_does_not_say_who_it_is_is_never_believed(scripted, proxy):
    """However often its links end: each time it may be another process with an empty memory."""
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
            assert talk.silent(TIMEOUT * TICK)  # the proxy looks after its servers meanwhile
        talk.in_step()
