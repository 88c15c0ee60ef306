"""gmproxyctl status: the state of the service and its servers."""

import json

import pytest
from support.keys import keys_by_server
from support.reports import THEN, backend, pool, report
from support.timing import eventually, milliseconds

from gmproxy import __version__
from gmproxy.console import status


def test_what_it_shows():
    named = backend("10.0.0.1:11211", name="one", weight=2, in_flight=7, share=0.75)
    down = backend(
        "10.0.0.2:11211",
        state="ejected",
        by_hand=True,
        state_since=THEN - 90,
        last_error="timeout",
        last_error_at=THEN - 100,
        errors={"timeout": 3},
        share=0.25,
        keys=0,
        hits=0,
    )
    spare = backend("10.0.0.9:11211", role="backup", share=0)
    assert status.format_report(report({"default": pool(named, down, spare)})) == [
        "gmproxy 1.2.3 (pure), pid 4711, 1 worker, up 60 min, memory 40.0 MB, loop lag 1.00 ms",
        "",
        "pool default: 3 of 4096 clients, 3000 requests, hit ratio 75.0 %, 3 errors",
        "STATE            FOR     SERVER                          SHARE  CONNS  IN FLIGHT  REQUESTS    HITS     P50      P99  ERRORS  LAST ERROR",
        "up               60 min  one (10.0.0.1:11211) weight 2  75.0 %      2          7      1000  75.0 %  100 us  1.00 ms       0",
        "ejected by hand  90 s    10.0.0.2:11211                 25.0 %      2          0      1000       -  100 us  1.00 ms       3  timeout, 100 s ago",
        "up               60 min  10.0.0.9:11211 backup                      2          0      1000  75.0 %  100 us  1.00 ms       0",
        "1 of 3 servers ejected",
    ]


def test_sets_have_columns_of_their_own():
    main = backend("10.0.0.1:11211", zone="a", share=1.0)
    far = backend("10.0.1.1:11211", role="replica1", set="far", zone="b", journal=12, refills=20_000, state="ejected", enabled=False)
    behind = backend("10.0.2.1:11211", role="replica2", journal_everything=True)
    assert status.format_report(report({"default": pool(main, far, behind, backup_writes_differed=2)}))[2:] == [
        "pool default: 3 of 4096 clients, 3000 requests, hit ratio 75.0 %, 0 errors, 2 differing replies",
        "STATE  FOR     SERVER          SET       ZONE    SHARE  OWED   FILLS  CONNS  IN FLIGHT  REQUESTS    HITS     P50      P99  ERRORS  LAST ERROR",
        "up     60 min  10.0.0.1:11211  main      a     100.0 %     0       0      2          0      1000  75.0 %  100 us  1.00 ms       0",
        "off    60 min  10.0.1.1:11211  far       b                12  20.0 k      2          0      1000  75.0 %  100 us  1.00 ms       0",
        "up     60 min  10.0.2.1:11211  replica2                  all       0      2          0      1000  75.0 %  100 us  1.00 ms       0",
    ]


def test_all_is_well(service, ask):
    running = service()
    said = ask(running, "status")
    assert (said.status, said.err) == (0, "")
    assert said.lines[0].startswith(f"gmproxy {__version__} (") and f"pid {running.pid}, 1 worker" in said.lines[0]
    assert all(server.address in said.out for server in running.servers)
    assert "\x1b" not in said.out


def test_a_server_that_is_down_is_another_exit_status(service, ask):
    running = service("--server-failure-limit", "1")
    running.servers[1].kill()

    def down():
        with running.talk() as talk:
            for number in range(8):
                talk.ask(b"set k%d 0 0 1\r\n1\r\n" % number)
        return ask(running, "status").status == status.SERVER_EJECTED

    eventually(down)
    said = ask(running, "status")
    line = next(line for line in said.lines if running.servers[1].address in line)
    assert line.split()[0] in ("ejected", "probing") and "connecting" in line
    assert said.lines[-1] == "1 of 2 servers ejected"
    assert ask(running, "status", "--json").status == status.SERVER_EJECTED


def test_an_ejected_server_is_down_since_its_ejection(service, ask):
    """The time is not that of the latest probe."""
    running = service("--server-failure-limit", "1", "--timeout", milliseconds(2), "--server-retry-timeout", milliseconds(3))
    running.servers[1].pause()  # probes take as long as the timeout

    def look(state):
        backends = json.loads(ask(running, "status", "--json").out)["pools"]["default"]["backends"]
        return next((each for each in backends if each["label"] == running.servers[1].address and each["state"] == state), None)

    _, [key] = keys_by_server(2, 1)
    with running.talk() as talk:
        talk.ask(b"set %b 0 0 1\r\n1\r\n" % key)
    began = eventually(lambda: look("ejected"))
    for state in ("probing", "ejected"):
        now = eventually(lambda: look(state))
        assert now["state_since"] == pytest.approx(began["ejected_at"], abs=0.01)


def test_json_is_the_report(service, ask):
    running = service()
    told = json.loads(ask(running, "status", "--json").out)
    assert told["pid"] == running.pid
    assert [backend["label"] for backend in told["pools"]["default"]["backends"]] == [server.address for server in running.servers]


def test_one_pool(service, ask):
    running = service()
    assert "pool default" in ask(running, "status", "--pool", "default").out
    assert "there is no pool 'other'; known: default" in ask(running, "status", "--pool", "other").complaint


def test_several_workers_are_one_service(service, ask):
    running = service("--workers", "2")
    eventually(lambda: "2 workers" in ask(running, "status").lines[0])
