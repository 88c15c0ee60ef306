"""The rates of the last quarter of an hour."""

import copy
import json

from support.reports import THEN, backend, pool, report

from gmproxy.monitoring.history import ALL, FIELDS, INTERVAL, SPAN, History, server_ids

PRIMARY, BACKUP = "primary 10.0.0.1:11211", "backup 10.0.0.1:11211"


def first():
    return report({"default": pool(backend("10.0.0.1:11211"), backend("10.0.0.1:11211", role="backup"))})


def later(before, seconds, requests):
    """`before` after `seconds`, in which the primary had `requests`, half of them hits within the second bucket."""
    after = copy.deepcopy(before)
    after["time"] += seconds
    primary = after["pools"]["default"]["backends"][0]
    primary["requests"]["get"] += requests
    primary["keys"] += requests
    primary["hits"] += requests // 2
    primary["latency"]["buckets"][1] += requests
    return after


def history_of(*reports):
    history = History()
    for each in reports:
        history.add_report(each)
    return json.loads(history.as_json())


def test_one_report_has_no_rates():
    assert history_of(first()) == {"interval": INTERVAL, "span": SPAN, "fields": list(FIELDS), "points": []}


def test_a_point_has_the_rates_of_each_server_and_of_the_pool():
    one = first()
    (point,) = history_of(one, later(one, 10, 1000))["points"]
    assert point["time"] == THEN + 10
    servers = point["pools"]["default"]
    rates = dict(zip(FIELDS, servers[PRIMARY]))
    assert rates == {"requests": 100.0, "errors": 0.0, "sent": 0.0, "received": 0.0, "hits": 0.5, "p50": 0.00055, "p99": 0.000991}
    assert dict(zip(FIELDS, servers[BACKUP])) == {**dict.fromkeys(FIELDS, 0.0), "hits": None, "p50": None, "p99": None}
    assert list(servers) == [ALL, PRIMARY, BACKUP] and servers[ALL] == servers[PRIMARY]


def test_what_is_not_known_is_none():
    one = first()
    reset, other_workers = later(one, 10, -500), later(one, 20, 10) | {"workers": [1, 2]}
    points = history_of(one, reset, other_workers)["points"]
    assert [(point["pools"]["default"][PRIMARY], point["pools"]["default"][ALL]) for point in points] == [(None, None), (None, None)]


def test_the_same_report_again_is_no_point():
    one = first()
    assert history_of(one, one)["points"] == []


def test_a_quarter_of_an_hour_is_kept():
    reports = [first()]
    for _ in range(120):
        reports.append(later(reports[-1], INTERVAL, 10))
    points = history_of(*reports)["points"]
    assert len(points) == SPAN / INTERVAL == 90
    assert (points[0]["time"], points[-1]["time"]) == (THEN + 310, THEN + 1200)


def test_a_server_that_is_there_twice_has_two_names():
    assert server_ids([backend("a:1"), backend("a:1"), backend("a:1", role="backup")]) == ["primary a:1", "primary a:1'", "backup a:1"]
