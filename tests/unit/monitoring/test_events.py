"""The latest log lines, kept for display."""

import logging

import pytest

from gmproxy.monitoring import events
from gmproxy.monitoring.events import MAX_EVENTS, ONGOING_WITHIN, RecentEvents


def record(line, created=1000.0, level=logging.WARNING, pool=None):
    made = logging.LogRecord("gmproxy", level, "", 0, line, (), None)
    made.created = created
    if pool:
        made.pool = pool
    return made


@pytest.mark.parametrize(
    "line, what, server, detail",
    [
        ("backend ejected server=a:1 reason=timeout failures=3", "backend ejected", "a:1", "reason=timeout failures=3"),
        (
            "backend failed server=a:1 reason=closed detail='x y' requests=1 pool=p",
            "backend failed",
            "a:1",
            "reason=closed detail='x y' requests=1",
        ),
        ("reloaded pools=1 added=0", "reloaded", "", "pools=1 added=0"),
        ("draining", "draining", "", ""),
        ("reload failed\nTraceback", "reload failed", "", ""),
    ],
)
def test_a_line_is_a_sentence_and_values(line, what, server, detail):
    event = events.parse_record(record(line, pool="p"))
    assert event == {
        "time": 1000.0,
        "since": 1000.0,
        "level": "warning",
        "what": what,
        "pool": "p",
        "server": server,
        "detail": detail,
        "times": 1,
    }


def test_the_same_within_a_second_is_one_event():
    recent = RecentEvents()
    for created, server in ((0.0, "a"), (0.5, "b"), (0.9, "a"), (3.0, "a")):
        recent.handle(record(f"backend failed server={server} reason=closed", created))
    assert [(event["server"], event["times"]) for event in recent.as_list()] == [("a", 2), ("b", 1), ("a", 1)]


def test_a_pool_that_only_the_line_names():
    event = events.parse_record(record("guests overflowed pool=p keys=2: and more"))
    assert (event["pool"], event["detail"]) == ("p", "keys=2:")


def test_what_goes_on_is_one_event_that_moves_and_counts():
    recent = RecentEvents()
    for number in range(3 * MAX_EVENTS):
        recent.handle(record(f"slow requests server={number % 9} requests={number} servers=9", number * 10.0, pool="p"))
        recent.handle(record(f"backend overloaded server={number % 2} requests=1", number * 10.0, pool="p"))
        if number == 2:
            recent.handle(record("backend ejected server=a", 25.0, pool="p"))
    latest = (3 * MAX_EVENTS - 1) * 10.0
    assert [(event["what"], event["server"], event["time"], event["since"], event["times"]) for event in recent.as_list()] == [
        ("backend ejected", "a", 25.0, 25.0, 1),
        ("backend overloaded", "0", latest - 10.0, 0.0, 300),
        ("slow requests", str((3 * MAX_EVENTS - 1) % 9), latest, 0.0, 600),
        ("backend overloaded", "1", latest, 10.0, 300),
    ]
    assert recent.as_list()[2]["detail"] == f"requests={3 * MAX_EVENTS - 1} servers=9"


def test_what_went_on_long_ago_is_another_event():
    recent = RecentEvents()
    for created in (0.0, 10.0, 11.0 + ONGOING_WITHIN):
        recent.handle(record("slow requests server=a requests=1", created))
    assert [(event["time"], event["times"]) for event in recent.as_list()] == [(10.0, 2), (11.0 + ONGOING_WITHIN, 1)]


def test_what_goes_on_in_several_workers_is_one_event():
    def seen(*moments):
        recent = RecentEvents()
        for created in moments:
            recent.handle(record(f"slow requests server=a requests={created:.0f}", created))
        return recent.as_list()

    merged = events.merge([seen(3.0, 103.0), seen(1.0, 99.0), seen(1000.0)])
    assert [(event["time"], event["since"], event["times"], event["workers"], event["detail"]) for event in merged] == [
        (103.0, 1.0, 4, 2, "requests=103"),
        (1000.0, 1000.0, 1, 1, "requests=1000"),
    ]


def test_only_the_latest_are_kept():
    recent = RecentEvents()
    for number in range(MAX_EVENTS + 5):
        recent.handle(record(f"event{number}", number * 10.0))
    assert [event["what"] for event in recent.as_list()] == [f"event{number}" for number in range(5, MAX_EVENTS + 5)]


def test_debug_lines_are_no_events():
    logger = logging.Logger("events", logging.DEBUG)
    recent = RecentEvents()
    logger.addHandler(recent)
    logger.debug("link opened")
    logger.info("reloaded")
    assert [event["what"] for event in recent.as_list()] == ["reloaded"]


def test_what_several_workers_saw_is_one_event_in_the_order_of_time():
    def seen(*lines):
        recent = RecentEvents()
        for line, created in lines:
            recent.handle(record(line, created))
        return recent.as_list()

    one = seen(("ejected server=a", 1.0), ("restored server=a", 9.0))
    two = seen(("ejected server=a", 1.4), ("ejected server=b", 1.5))
    merged = events.merge([one, two])
    assert [(event["what"], event["server"], event["time"], event["workers"]) for event in merged] == [
        ("ejected", "a", 1.0, 2),
        ("ejected", "b", 1.5, 1),
        ("restored", "a", 9.0, 1),
    ]
