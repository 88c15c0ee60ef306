"""The replies of several servers to `stats`, as one."""

from gmproxy.client import server_totals, stat_names

ONE = [("pid", "1"), ("curr_items", "5"), ("total_items", "50"), ("of_another_version", "7"), ("libevent", "2.1")]
TWO = [("pid", "2"), ("curr_items", "3"), ("total_items", "30"), ("of_another_version", "x")]


def test_counters_are_summed():
    totals = server_totals.general({"a:1": ONE, "b:2": TWO}, {})
    assert (totals["curr_items"], totals["total_items"]) == (8, 80)
    assert set(stat_names.GENERAL) <= set(totals), "names that no server sent are there, too"


def test_a_name_that_is_not_known_is_summed_if_all_values_are_numbers():
    assert "of_another_version" not in server_totals.general({"a:1": ONE, "b:2": TWO}, {})
    assert server_totals.general({"a:1": ONE}, {})["of_another_version"] == 7


def test_the_counters_of_a_server_without_a_reply_stay_and_its_gauges_do_not():
    totals = server_totals.general({"a:1": ONE}, {"a:1": TWO, "b:2": TWO})
    assert (totals["total_items"], totals["curr_items"]) == (80, 5)


def test_without_any_reply_all_is_zero_or_the_neutral_word():
    totals = server_totals.general({}, {})
    assert totals == {name: stat_names.WORDS.get(name, 0) for name in stat_names.GENERAL}


def test_settings():
    totals = server_totals.settings({"a:1": [("maxbytes", "100"), ("evictions", "on")], "b:2": [("maxbytes", "50")]})
    assert set(totals) == set(stat_names.SETTINGS)
    assert (totals["maxbytes"], totals["evictions"]) == (150, "on")


def test_slab_classes_are_told_apart_by_the_number_of_the_server():
    replies = {"b:2": [("items:3:number", "7"), ("active_slabs", "2")], "a:1": [("3:chunk_size", "96"), ("active_slabs", "1")]}
    assert server_totals.classes(replies, ["a:1", "b:2"]) == [("1003:chunk_size", "96"), ("items:2003:number", "7"), ("active_slabs", 3)]


def test_a_server_without_a_reply_keeps_its_number():
    assert server_totals.classes({"b:2": [("3:chunk_size", "96")]}, ["a:1", "b:2"]) == [("2003:chunk_size", "96")]


def test_sizes_are_sorted_as_numbers_and_words_come_last():
    replies = {"a:1": [("192", "1"), ("96", "2"), ("sizes_status", "disabled")], "b:2": [("96", "3")]}
    assert server_totals.sizes(replies) == [("96", 5), ("192", 1), ("sizes_status", "disabled")]
