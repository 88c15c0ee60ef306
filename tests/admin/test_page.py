"""The status page as a user sees it, in headless Chromium."""

import copy

import pytest
from support.reports import THEN, backend, event, pool, report
from support.timing import eventually

from gmproxy.backend.health import STATES
from gmproxy.monitoring.history import FIELDS

pytestmark = pytest.mark.long  # it needs a browser, and checks what changes with time

TROUBLE = backend(
    "10.0.0.2:11211",
    state="ejected",
    state_since=THEN - 90,
    last_error="timeout no answer within 1.0 s",
    last_error_at=THEN - 5,
    links=0,
    ejections=1,
    journal=42,
    journal_age=90.0,
)


def later(before, seconds, **counted):
    """`before` after `seconds`, in which every server counted `counted`."""
    after = copy.deepcopy(before)
    after["time"] += seconds
    for each in (one for some in after["pools"].values() for one in some["backends"]):
        each["requests"]["get"] = each["requests"].get("get", 0) + counted.get("requests", 0)
        each["keys"] += counted.get("keys", 0)
        each["hits"] += counted.get("hits", 0)
        each["errors"]["timeout"] += counted.get("errors", 0)
        each["latency"]["buckets"] = [one + more for one, more in zip(each["latency"]["buckets"], counted.get("buckets", [0] * 5))]
    return after


def way(key, server, pool="default", **more):
    """The reply of /route for a key."""
    return {
        "pools": {
            pool: [
                {
                    "key": key,
                    "hash": 4711,
                    "hash_name": "md5",
                    "distribution": "ketama",
                    "server": server,
                    "goes_to": server,
                    "backup": None,
                }
                | more
            ]
        }
    }


def rows(browser):
    return browser.texts("#rows tr")


def figures(browser):
    return dict(zip(browser.texts("#figures dt"), browser.texts("#figures dd")))


# -- servers


def test_all_is_well(browser, site):
    browser.open(site.url)
    browser.reads("#summary", "All 2 servers are up")
    assert browser.run("document.title") == "All 2 servers are up – gmproxy"
    assert [row.startswith(f"up 60 min 10.0.0.{number}:11211") for number, row in enumerate(rows(browser), 1)] == [True, True]
    assert "1.2.3 pure, up 60 min" in browser.text("#build")


def test_what_an_operator_has_switched_off(browser, site):
    server = backend("10.0.0.1:11211", journal_everything=True, journal_age=200.0)
    site.report = report({"default": pool(server)}, fills_enabled=False, journal="incomplete")
    browser.open(site.url)
    browser.reads("#build", "1.2.3 pure, up 60 min, fills off, journal incomplete")
    assert "all keys: pending invalidations, oldest 3 min" in rows(browser)[0]


def test_a_server_that_is_down_is_told_in_words_shape_and_colour(browser, site):
    site.report = report({"default": pool(backend("10.0.0.1:11211"), TROUBLE)}, [event("backend ejected", TROUBLE["label"])])
    browser.open(site.url)
    browser.reads("#summary", "1 of 2 servers is ejected: 10.0.0.2:11211")
    up, down = rows(browser)
    assert (
        down.startswith("ejected 90 s 10.0.0.2:11211 42 pending invalidations, oldest 90 s")
        and "timeout no answer within 1.0 s 5 s ago" in down
    )
    assert browser.run("[...document.querySelectorAll('#rows use')].map(shape => shape.getAttribute('href'))") == ["#up", "#ejected"]
    assert len(set(browser.run("[...document.querySelectorAll('#rows .state')].map(node => getComputedStyle(node).color)"))) == 2
    assert "backend ejected 10.0.0.2:11211" in browser.text("#events")


@pytest.mark.parametrize(
    "states, verdict",
    [
        (("ejected", "probing"), "All servers are ejected"),
        (("up", "probing"), "1 of 2 servers is ejected"),
        (("up", "failing"), "1 of 2 servers is failing: 10.0.0.2:11211"),
        (("warming", "up"), "1 of 2 servers is warming: 10.0.0.1:11211"),
    ],
)
def test_the_worst_is_said_first(states, verdict, browser, site):
    site.report = report({"default": pool(*(backend(f"10.0.0.{number}:11211", state=state) for number, state in enumerate(states, 1)))})
    browser.open(site.url)
    browser.reads("#summary", verdict)


def test_backups_and_names_and_weights(browser, site):
    named = backend("10.0.0.1:11211", name="one", weight=2, share=1.0)
    site.report = report({"default": pool(named, backend("10.0.0.1:11211", role="backup", share=0))})
    browser.open(site.url)
    browser.reads("#rows", "one 10.0.0.1:11211, weight 2 100.0 %")
    assert "10.0.0.1:11211 backup" in rows(browser)[1]
    assert browser.texts("#shares li") == ["one 100.0 % (by weight 100.0 %)"], "a backup has no part of the ring"


def test_sets_zones_and_a_set_that_is_switched_off(browser, site):
    far = backend("10.0.1.1:11211", role="replica1", set="far", zone="b", share=0)
    site.report = report({"default": pool(backend("10.0.0.1:11211", zone="a", share=1.0), far)})
    browser.open(site.url)
    browser.reads("#summary", "All 2 servers are up")
    assert "10.0.0.1:11211 zone a 100.0 %" in rows(browser)[0] and "10.0.1.1:11211 far, zone b – " in rows(browser)[1]
    assert browser.texts("#shares li") == ["10.0.0.1:11211 100.0 % (by weight 100.0 %)"]
    site.report = report({"default": pool(backend("10.0.0.1:11211", share=1.0), far | {"enabled": False, "state": "ejected"})})
    browser.reads("#summary", "The server is up")
    browser.reads("#build", "far off")
    assert rows(browser)[1].startswith("off ")
    site.route = way(
        "k", "10.0.0.1:11211", sets=[{"set": "far", "role": "replica1", "server": "10.0.1.1:11211", "enabled": False, "owed": True}]
    )
    browser.run("document.querySelector('#key').value = 'k'; document.querySelector('#lookup button').click()")
    browser.reads("#key-route", "server 10.0.0.1:11211 up far 10.0.1.1:11211 off")


def test_rates_are_those_of_the_last_seconds(browser, site):
    browser.open(site.url)
    browser.reads("#summary", "All")
    assert figures(browser)["Requests"] == "– /s", "one look tells no rate"
    site.report = later(site.report, 4, requests=400, keys=400, hits=100, errors=8, buckets=[0, 0, 200, 0, 0])
    browser.reads("#figures", "Requests 200 /s")
    assert figures(browser)["Hit ratio"] == "25.0 %"
    assert figures(browser)["Errors"] == "4 /s"
    assert figures(browser)["Latency p99"] == "9.91 ms", "99 % of the way from 1 to 10 ms"
    assert "100 0 B/s, 0 B/s 25.0 % 5.5 ms 9.91 ms 2" in rows(browser)[0]


def test_counters_that_begin_anew_are_no_negative_rate(browser, site):
    browser.open(site.url)
    browser.reads("#summary", "All")
    site.report = later(site.report, 2, requests=-900)
    eventually(lambda: browser.run("report.time") == THEN + 2)
    assert figures(browser)["Requests"] == "– /s"
    site.report = later(site.report, 2, requests=10)
    browser.reads("#figures", "Requests 10 /s")


def test_a_worker_that_could_not_answer_makes_no_jump(browser, site):
    site.report = report(workers=[1, 2])
    browser.open(site.url)
    browser.reads("#summary", "All")
    for workers, requests in (([1], -400), ([2, 1], 402), ([1, 2], 2)):
        site.report = later(site.report, 2, requests=requests) | {"workers": workers}
        eventually(lambda: browser.run("report.time") == site.report["time"])
        shown = figures(browser)["Requests"]
        assert shown == ("2 /s" if requests == 2 else "– /s")


def test_nodes_stay_and_only_their_words_change(browser, site):
    browser.open(site.url)
    browser.reads("#summary", "All")
    browser.run("document.querySelectorAll('#rows *, #figures *, #shares *').forEach(node => node.mine = true); 0")
    site.report = later(site.report, 2, requests=10)
    browser.reads("#figures", "Requests 10 /s")
    assert browser.run("[...document.querySelectorAll('#rows *, #figures *, #shares *')].every(node => node.mine)")


def test_servers_come_and_go(browser, site):
    browser.open(site.url)
    browser.reads("#rows", "10.0.0.2")
    site.report = later(report({"default": pool(backend("10.0.0.3:11211"), backend("10.0.0.1:11211"))}), 1)
    browser.reads("#rows", "10.0.0.3")
    assert [row.split()[3] for row in rows(browser)] == ["10.0.0.3:11211", "10.0.0.1:11211"]


# -- the plots


def test_points_are_kept_and_read_with_the_keyboard(browser, site):
    browser.open(site.url)
    browser.reads("#summary", "All")
    for step in range(1, 4):
        site.report = later(site.report, 5, requests=50 * step, keys=50, hits=25)
        eventually(lambda: browser.run("report.time") == site.report["time"])
    readings = browser.texts("figure output")
    assert readings[:2] == ["all servers: 60", "all servers: 50.0 %"]
    assert browser.run("past.get('default').get('').map(point => point.requests)") == [20, 40, 60]
    browser.run("document.querySelector('canvas').focus()")
    browser.press("ArrowLeft", "ArrowLeft")
    assert browser.texts("figure output")[0].endswith("all servers: 20")
    assert "20. Arrow keys" in browser.run("document.querySelector('canvas').getAttribute('aria-label')")
    browser.press("Escape")
    assert browser.texts("figure output")[0] == "all servers: 60"


#: How many pixels of the first plot are opaque.
INKED = """(() => {
  const copy = Object.assign(document.createElement('canvas'), {width: 600, height: 150}), pen = copy.getContext('2d');
  pen.drawImage(document.querySelector('canvas'), 0, 0);
  return pen.getImageData(0, 0, 600, 150).data.filter((value, place) => place % 4 === 3 && value > 250).length; })()"""


def test_something_is_drawn_and_one_server_can_be_picked(browser, site):
    site.report["pools"]["default"]["backends"][0]["requests"] = {}
    browser.open(site.url)
    browser.reads("#summary", "All")
    for step in range(3):
        site.report = later(site.report, 200, requests=500)
        site.report["pools"]["default"]["backends"][0]["requests"]["set"] = 5000 * step
        eventually(lambda: browser.run("report.time") == site.report["time"])
    everything = browser.run(INKED)
    assert everything > 200
    browser.run("document.querySelectorAll('#legend button')[2].click()")
    assert browser.run(INKED) < everything, "the others are faint"
    assert browser.texts("figure output")[0].startswith("10.0.0.2:11211: ")
    assert browser.text("#detail").startswith(
        "10.0.0.2:11211: counters since the start or the last reset Requests by command get 2,400, set 100"
    )


def points(count, *servers, **values):
    """The points of /history.json for the last `count` times 10 s."""
    point = [values.get(field, 0) for field in FIELDS]
    return [{"time": THEN - 10 * (count - number), "pools": {"default": dict.fromkeys(("", *servers), point)}} for number in range(count)]


def test_rates_and_plots_are_there_at_the_first_look(browser, site):
    servers = ("primary 10.0.0.1:11211", "primary 10.0.0.2:11211")
    site.history["points"] = points(90, *servers, requests=120, errors=3, sent=1000, received=2000, hits=0.5, p50=0.002, p99=0.004)
    browser.open(site.url)
    browser.reads("#summary", "All")
    shown = figures(browser)
    assert (shown["Requests"], shown["Hit ratio"], shown["Latency p99"], shown["Errors"]) == ("120 /s", "50.0 %", "4 ms", "3 /s")
    assert "120 1 kB/s, 2 kB/s 50.0 % 2 ms 4 ms 3" in rows(browser)[0]
    assert browser.text("#plots-title") == "The last 15 minutes"
    assert browser.run(f"past.get('default').get('{servers[1]}').length") == 90
    assert browser.texts("figure output") == ["all servers: 120", "all servers: 50.0 %", "all servers: 2 ms, 4 ms", "all servers: 3"]
    site.report = later(site.report, 4, requests=400, keys=400, hits=100)
    browser.reads("#figures", "Requests 200 /s")
    assert browser.run("past.get('default').get('').length") >= 89, "the plots go on"


def test_what_is_long_past_is_not_now(browser, site):
    site.history["points"] = [point | {"time": point["time"] - 300} for point in points(3, requests=120)]
    browser.open(site.url)
    browser.reads("#summary", "All")
    assert figures(browser)["Requests"] == "– /s"
    assert browser.text("#plots-title") == "The last 10 minutes"


def test_a_gap_that_the_service_knows_is_a_gap(browser, site):
    site.history["points"] = points(3, requests=120)
    site.history["points"][1]["pools"]["default"][""] = None
    browser.open(site.url)
    browser.reads("#summary", "All")
    assert browser.run("runs(past.get('default').get(''), 'requests', 0).length") == 2


# -- the key box


def test_where_a_key_goes(browser, site):
    site.report = report({"default": pool(backend("10.0.0.1:11211"), TROUBLE, backend("10.0.0.9:11211", role="backup"))})
    site.route = way("user:1", "10.0.0.2:11211", goes_to="10.0.0.1:11211", backup="10.0.0.9:11211")
    browser.open(site.url)
    browser.reads("#summary", "1 of 3")
    browser.run("document.querySelector('#key').focus()")
    browser.press(*"user:1", "Enter")
    browser.reads(
        "#key-route", "hash 4711 (md5, ketama) server 10.0.0.2:11211 ejected backup 10.0.0.9:11211 up stand-in server 10.0.0.1:11211 up"
    )
    assert site.asked == [{"key": "user:1", "pool": "default"}]


def test_a_key_that_cannot_be_looked_up(browser, site):
    site.route = "the key is too long"
    browser.open(site.url)
    browser.reads("#summary", "All")
    browser.run("document.querySelector('#key').value = 'k'; document.querySelector('#lookup button').click()")
    browser.reads("#key-route", "Lookup failed: the key is too long")
    assert all("400" in line for line in browser.complaints)
    browser.complaints.clear()


# -- pools


def test_several_pools(browser, site):
    site.report = report({"alpha": pool(backend("10.0.0.1:11211")), "beta": pool(backend("10.0.0.2:11211", state="ejected"))})
    browser.open(site.url)
    browser.reads("#summary", "Pool beta: all servers are ejected")
    assert browser.texts("#pools button") == ["up: alpha", "ejected: beta"]
    browser.run("document.querySelectorAll('#pools button')[1].click()")
    browser.reads("#rows", "ejected")
    assert browser.run("location.hash") == "#beta"
    browser.call("Page.reload")
    browser.reads("#rows", "ejected")


# -- the proxy itself


def test_a_proxy_that_does_not_answer(browser, site):
    browser.open(site.url)
    browser.reads("#summary", "All")
    site.report, saved = 503, site.report
    browser.reads("#outage", "gmproxy does not reply since")
    assert "status 503 Service Unavailable. The data below is from" in browser.text("#outage")
    assert browser.text("#summary") == "No reply from gmproxy" and browser.run("document.title").startswith("No reply")
    assert browser.text("#rows"), "what was known is still there"
    site.report = later(saved, 60)
    browser.run("document.querySelector('#retry-now').click()")
    browser.reads("#summary", "All 2 servers are up")
    assert browser.text("#outage") == ""
    assert all("503" in line for line in browser.complaints)
    browser.complaints.clear()


def test_a_proxy_that_never_answered(browser, site):
    site.report = {"error": "no worker replies"}
    browser.open(site.url)
    browser.reads("#outage", "the reply is not a report")
    assert browser.text("#main") == ""


# -- safety


def test_what_comes_from_outside_stays_text(browser, site):
    nasty = "<img src=x onerror=alert(1)><script>console.error(1)</script>"
    site.report = report(
        {
            nasty: pool(
                backend(nasty, name=nasty, last_error=nasty, state="failing"), backend("b", state="failing"), options={nasty: nasty}
            ),
            "b": pool(),
        },
        [event(nasty, nasty, pool=nasty, detail=nasty)],
        version=nasty,
    )
    site.route = way(nasty, nasty, pool=nasty, goes_to="b", hash_name=nasty)
    browser.open(site.url + "#" + "<img src=x onerror=alert(1)>")
    browser.reads("#summary", "failing")
    browser.run(f"document.querySelector('#key').value = {nasty!r}; document.querySelector('#lookup button').click()")
    browser.reads("#key-route", "onerror")
    browser.run("document.querySelector('.server').click()")
    assert browser.run("document.querySelectorAll('img, body script').length") == 1, "the page's own script"


def test_nobody_else_is_asked_for_anything(browser, site):
    site.route = way("k", "10.0.0.1:11211")
    browser.open(site.url)
    browser.reads("#summary", "All")
    browser.run("document.querySelector('#key').value = 'k'; document.querySelector('#lookup button').click()")
    browser.reads("#key-route", "10.0.0.1")
    assert {address.split("?")[0] for address in browser.requests if not address.startswith("data:")} == {
        site.url,
        f"{site.url}report.json",
        f"{site.url}history.json",
        f"{site.url}route",
    }


# -- accessibility

#: The lowest contrast of any text on the page, and the text.
CONTRAST = """(() => {
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => { const [r, g, b] = parts(colour).map(v => v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = node => { for (; node; node = node.parentElement) { const c = getComputedStyle(node).backgroundColor; if (parts(c)[3] !== 0) return c; } return 'rgb(255, 255, 255)'; };
  let worst = [99, ''];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.getClientRects().length || node.closest('script, noscript, svg')) continue;
    const [one, other] = [light(getComputedStyle(node).color), light(ground(node))].sort((a, b) => b - a);
    if ((one + 0.05) / (other + 0.05) < worst[0]) worst = [(one + 0.05) / (other + 0.05), walker.currentNode.data];
  }
  return worst; })()"""


@pytest.mark.parametrize("dark", [False, True])
def test_every_word_can_be_read_in_the_light_and_in_the_dark(dark, browser, site):
    states = ("up", "failing", "ejected", "probing", "warming")
    site.report = report(
        {"default": pool(*(backend(f"10.0.0.{number}:11211", state=state) for number, state in enumerate(states, 1)))},
        [event("backend ejected", "10.0.0.3:11211")],
    )
    browser.look(dark=dark)
    browser.open(site.url)
    browser.reads("#summary", "ejected")
    browser.run("document.querySelector('.server').click()")
    contrast, words = browser.run(CONTRAST)
    assert contrast >= 4.5, words


def test_a_phone_shows_all_of_it_without_scrolling_sideways(browser, site):
    site.report = report(
        {"default": pool(backend("a-rather-long-name-of-a-server.example.org:11211"), TROUBLE)},
        [event("backend ejected", TROUBLE["label"])],
    )
    browser.look(width=320, height=640)
    browser.open(site.url)
    browser.reads("#summary", "1 of 2")
    browser.run("document.querySelector('.server').click()")
    assert browser.run("document.documentElement.scrollWidth") == 320
    assert "Hit ratio" in browser.run("getComputedStyle(document.querySelector('#rows td[data-name=\"Hit ratio\"]'), '::before').content")


LONG = "cache-00.eu-west-1.example.internal:11211"

#: For each word of `text` within `selector`: on how many lines it is.
LINES = """((selector, text) => {
  const node = [...document.querySelectorAll(selector)].find(node => node.textContent.includes(text));
  return text.split(/(?<=[.,;/=&@_-])/).map(word => {
    const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const place = walker.currentNode.data.indexOf(word);
      if (place < 0) continue;
      const range = document.createRange();
      range.setStart(walker.currentNode, place);
      range.setEnd(walker.currentNode, place + word.length);
      return new Set([...range.getClientRects()].map(box => Math.round(box.top))).size;
    }
    return 0; }); })"""


@pytest.mark.parametrize("width", [400, 1000, 1600])
def test_names_are_broken_between_words_only(width, browser, site):
    site.report = report(
        {"default": pool(*(backend(LONG.replace("00", f"0{number}")) for number in range(4)))},
        [event("reloaded", detail="changed=server_failure_limit,server_retry_timeout,server_connections,timeout")],
    )
    browser.look(width=width, height=900)
    browser.open(site.url)
    browser.reads("#summary", "All 4")
    assert browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    for selector, text in (("#rows th", LONG), ("#shares li", LONG), ("#events p.mono", "server_failure_limit,server_retry_timeout")):
        assert set(browser.run(f"{LINES}({selector!r}, {text!r})")) == {1}, selector
    table = browser.run("[document.querySelector('#servers').getBoundingClientRect().right, innerWidth]")
    assert table[0] <= table[1], "no column is out of sight"


def test_each_mark_is_explained(browser, site):
    browser.open(site.url)
    browser.reads("#symbols", "requests are sent to it")
    drawn = browser.run("[...document.querySelectorAll('symbol')].map(symbol => symbol.id)")
    explained = browser.run("[...document.querySelectorAll('#symbols .state')].map(node => node.textContent)")
    assert sorted(drawn) == sorted(explained) == sorted([*STATES, "off"])


def test_what_went_on_is_told_with_its_count(browser, site):
    site.report = report(events=[event("slow requests", "10.0.0.1:11211", since=THEN - 3600, times=28, workers=1)])
    browser.open(site.url)
    browser.reads("#events", "10.0.0.1:11211, 28 times since ")


def test_all_can_be_reached_and_is_named_for_those_who_do_not_see_it(browser, site):
    browser.open(site.url)
    browser.reads("#summary", "All")
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    named = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]}
    assert ("button", "10.0.0.1:11211") in named and ("cell", "up 60 min") in named
    assert ("textbox", "Which server has a key?") in named
    assert not [role for role, name in named if role in ("button", "textbox", "image", "table", "link") and not name]
    browser.press("Tab")
    focused = browser.run("[document.activeElement.className, getComputedStyle(document.activeElement).outlineStyle]")
    assert focused[1] == "solid"
