"""Counters never decrease, even if a worker does not reply or has ended."""

import pytest

from gmproxy.process.counter_totals import CounterTotals

STATS = "stats", ["default"]


def told(pid, gets, connections=1):
    general = {"pid": pid, "uptime": 9, "version": "1", "curr_connections": connections, "cmd_get": gets}
    return {"general": general, "links": [["a:1", 2]]}


def left(gets):
    return {"general": {"pid": 0, "uptime": 0, "version": "1", "curr_connections": 0, "cmd_get": gets}, "links": []}


@pytest.fixture
def totals():
    """It has recorded reports of two workers."""
    totals = CounterTotals()
    totals.record(*STATS, 1, told(1, 10))
    totals.record(*STATS, 2, told(2, 200))
    return totals


def test_who_answers_speaks_for_himself(totals):
    answers = {1: told(1, 11), 2: told(2, 222)}
    assert totals.complete(*STATS, answers) == list(answers.values())


def test_who_is_silent_has_counted_what_he_last_told(totals):
    assert totals.complete(*STATS, {1: told(1, 11)}) == [told(1, 11), left(200)]
    totals.record(*STATS, 2, told(2, 201))
    assert totals.complete(*STATS, {1: told(1, 11)}) == [told(1, 11), left(201)]


def test_the_dead_are_remembered_as_one(totals):
    for pid in (2, 3, 4):
        totals.record(*STATS, pid, told(pid, pid * 100))
        totals.on_death(pid)
    totals.on_death(5)  # which has never reported
    assert totals.complete(*STATS, {1: told(1, 11)}) == [told(1, 11), left(900)]


def test_each_pool_by_itself(totals):
    assert totals.complete("stats", ["other"], {1: told(1, 11)}) == [told(1, 11)]


def test_what_is_not_counted_is_not_remembered(totals):
    totals.record("slow", [], 2, {"slow": []})
    assert totals.complete("slow", [], {1: {"slow": []}}) == [{"slow": []}]
    totals.record(*STATS, 2, {"error": "no"})
    assert totals.complete(*STATS, {1: told(1, 11)}) == [told(1, 11), left(200)]


@pytest.mark.parametrize("answers", [{}, {1: {"error": "no"}}])
def test_nobody_speaks_for_the_silent_alone(totals, answers):
    assert totals.complete(*STATS, answers) == list(answers.values())


def test_counters_begin_anew(totals):
    totals.on_death(2)
    totals.clear()
    assert totals.complete(*STATS, {1: told(1, 0)}) == [told(1, 0)]
