"""Monitoring programs can read the statistics of gmproxy as those of memcached: names, order, and format of lines and values.

Each test also runs with a memcached, which proves that the test itself is right.
"""

import re
import shutil
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.servers import HOST, Memcached, Proxy
from support.talk import storage
from support.timing import PATIENCE, PROGRAM_TIMEOUT, eventually

NAMES = Path(__file__).parents[1] / "differential" / "memcached_1.6.45_names.txt"

#: Statistics of `stats` that collectd's plugin `memcached` reads.
COLLECTD = """
rusage_user rusage_system threads curr_items bytes limit_maxbytes curr_connections listen_disabled_num cmd_get cmd_set cmd_flush cmd_touch
incr_hits incr_misses decr_hits decr_misses get_hits get_misses evictions delete_hits delete_misses bytes_read bytes_written
""".split()
COLLECTD_BUFFER = 4096

#: Those of Telegraf's input `memcached`, without those of extstore.
TELEGRAF = """
accepting_conns auth_cmds auth_errors bytes bytes_read bytes_written cas_badval cas_hits cas_misses cmd_flush cmd_get cmd_set cmd_touch
conn_yields connection_structures curr_connections curr_items decr_hits decr_misses delete_hits delete_misses evicted_active
evicted_unfetched evictions expired_unfetched get_expired get_flushed get_hits get_misses hash_bytes hash_is_expanding hash_power_level
incr_hits incr_misses limit_maxbytes listen_disabled_num max_connections reclaimed rejected_connections store_no_memory store_too_large
threads total_connections total_items touch_hits touch_misses uptime
""".split()

#: Those of Datadog's check `mcache`, which uses the binary protocol.
DATADOG = """
total_items curr_items limit_maxbytes uptime bytes curr_connections max_connections connection_structures threads pointer_size rusage_user
rusage_system cmd_get cmd_set cmd_flush get_hits get_misses delete_misses delete_hits evictions bytes_read bytes_written cas_misses cas_hits
cas_badval total_connections listen_disabled_num
""".split()

#: Those of Prometheus' memcached_exporter: if one is missing it reports memcached_up 0.
EXPORTER = """
get_hits get_misses delete_hits delete_misses incr_hits incr_misses decr_hits decr_misses cas_hits cas_misses touch_hits touch_misses uptime
time cas_badval cmd_flush cmd_set rusage_user rusage_system bytes limit_maxbytes curr_items total_items bytes_read bytes_written
curr_connections total_connections rejected_connections conn_yields listen_disabled_num evictions reclaimed lru_crawler_starts
crawler_items_checked crawler_reclaimed moves_to_cold moves_to_warm moves_within_lru direct_reclaims accepting_conns max_connections
""".split()
EXPORTER_SETTINGS = "maxconns lru_crawler_sleep lru_crawler_tocrawl hot_lru_pct warm_lru_pct hot_max_factor warm_max_factor".split()
EXPORTER_YES = "lru_crawler lru_maintainer_thread".split()

#: Those of check_memcached and other Nagios plugins, which compute a hit rate and the used part of the memory.
NAGIOS = """
version uptime curr_connections total_connections cmd_get cmd_set get_hits get_misses bytes limit_maxbytes bytes_read bytes_written
curr_items total_items evictions connection_structures threads
""".split()

#: Those of munin's plugin memcached_.
MUNIN = """
bytes bytes_read bytes_written cmd_get cmd_set get_hits get_misses curr_connections total_connections curr_items total_items evictions
limit_maxbytes uptime rusage_user rusage_system version
""".split()


@pytest.fixture(scope="module", params=["memcached", "proxy", "proxy of two workers"])
def monitored(request):
    """A memcached, or a proxy over two, that has served some requests."""
    with ExitStack() as stack:
        servers = [stack.enter_context(Memcached()) for _ in range(2)]
        if request.param == "memcached":
            process = servers[0]
        else:
            workers = "2" if "two" in request.param else "1"
            process = stack.enter_context(Proxy("-s", servers[0].address, "-s", servers[1].address, "--workers", workers))
        with process.talk() as talk:
            for number in range(20):
                talk.expect(storage(b"set", b"key%d" % number, b"hello"), b"STORED\r\n")
                talk.ask(b"get key%d\r\n" % number, b"END\r\n")
                talk.ask(b"get absent%d\r\n" % number, b"END\r\n")
        yield SimpleNamespace(process=process, is_proxy=request.param != "memcached")
        if request.param != "memcached":
            assert "Traceback" not in process.log(), process.log()


def read_lines(process, *words, line_end="\r\n"):
    """The lines of `stats`, without END and line ends."""
    with process.talk() as talk:
        answer = talk.ask(" ".join(("stats", *words)).encode() + line_end.encode(), b"END\r\n").decode("ascii")
        talk.in_step()
    return answer.split("\r\n")[:-2]


def read_facts(process, *words, **options):
    """{name: value}. Each line must be STAT, a name and a value, and each name must be unique."""
    facts = {}
    for line in read_lines(process, *words, **options):
        stat, name, text = line.split(" ", 2)
        assert stat == "STAT" and name not in facts and text
        facts[name] = text
    return facts


def expected_names():
    lists = NAMES.read_text().split("\n\n")[1:]
    return {head: rest.split() for head, rest in (part.split("\n", 1) for part in lists)}


@pytest.mark.parametrize("command", ["stats", "stats settings"])
def test_every_name_of_memcached_is_there_first_and_in_order(monitored, command):
    if not monitored.is_proxy:
        pytest.skip("this memcached may be another version")
    names = expected_names()[command]
    assert len(names) > 75
    assert list(read_facts(monitored.process, *command.split()[1:]))[: len(names)] == names


def test_collectd(monitored):
    """collectd reads into a buffer of 4 KiB until it ends with END or is full, and ignores lines that do not have three words."""
    with socket.create_connection((HOST, monitored.process.port), PATIENCE) as sock:
        sock.sendall(b"stats\r\n")
        buffer = b""
        while not buffer.endswith(b"END\r\n") and len(buffer) < COLLECTD_BUFFER:
            buffer += sock.recv(COLLECTD_BUFFER - len(buffer))
    facts = {fields[1]: fields[2] for fields in map(str.split, buffer.decode().splitlines()) if len(fields) == 3}
    values = {name: float(facts[name]) for name in COLLECTD}
    assert 0 < values["bytes"] <= values["limit_maxbytes"]
    assert values["get_hits"] / values["cmd_get"] == 0.5


def test_telegraf(monitored):
    facts = read_facts(monitored.process)
    values = {name: int(facts[name]) for name in TELEGRAF}
    assert values["curr_items"] == 20 and values["accepting_conns"] == 1


def test_datadog(monitored):
    bmemcached = pytest.importorskip("bmemcached")
    client = bmemcached.Client(f"{HOST}:{monitored.process.port}")
    try:
        (facts,) = client.stats().values()
        values = {name: float(facts[name]) for name in DATADOG}
        assert 100 * values["get_hits"] / values["cmd_get"] == 50
        assert 0 < values["bytes"] / values["limit_maxbytes"] < 1
        (items,) = client.stats("items").values()
        assert sum(float(text) for name, text in items.items() if re.fullmatch(r"items:\d+:number", name)) == 20
        (slabs,) = client.stats("slabs").values()
        assert sum(float(text) for name, text in slabs.items() if re.fullmatch(r"\d+:used_chunks", name)) == 20
        assert float(slabs["active_slabs"]) >= 1 and float(slabs["total_malloced"]) > 0
        (settings,) = client.stats("settings").values()
        assert int(settings["maxconns"]) > 0
    finally:
        client.disconnect_all()


def test_memcached_exporter(monitored):
    """The version is one word, numbers can be parsed as floats, and CPU times have the format SECONDS.MICROSECONDS."""
    facts = read_facts(monitored.process)
    values = {name: float(facts[name]) for name in EXPORTER}
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", facts["version"])
    assert all(re.fullmatch(r"\d+\.\d{6}", facts[name]) for name in ("rusage_user", "rusage_system"))
    assert values["cmd_set"] - values["cas_misses"] - values["cas_hits"] - values["cas_badval"] == 20
    settings = read_facts(monitored.process, "settings")
    assert {name: float(settings[name]) for name in EXPORTER_SETTINGS}["maxconns"] > 0
    assert [settings[name] for name in EXPORTER_YES] == ["yes"] * len(EXPORTER_YES)
    items = read_facts(monitored.process, "items")
    assert all(re.fullmatch(r"items:\d+:\w+", name) and float(text) >= 0 for name, text in items.items())
    slabs = read_facts(monitored.process, "slabs")
    assert all(re.fullmatch(r"(\d+:)?\w+", name) and float(text) >= 0 for name, text in slabs.items())
    assert {name.split(":")[1] for name in items} == {name.split(":")[0] for name in slabs if ":" in name}


def test_nagios(monitored):
    facts = read_facts(monitored.process)
    assert set(NAGIOS) <= set(facts)
    assert re.match(r"\d+\.\d+\.\d+", facts["version"])
    assert float(facts["get_hits"]) / (float(facts["get_hits"]) + float(facts["get_misses"])) == 0.5
    assert 0 < float(facts["bytes"]) / float(facts["limit_maxbytes"]) < 1


def test_munin(monitored):
    """Its requests end with LF."""
    facts = read_facts(monitored.process, line_end="\n")
    assert set(MUNIN) <= set(facts)
    assert re.match(r"1\.[4-6]", facts["version"])
    settings = read_facts(monitored.process, "settings", line_end="\n")
    assert int(settings["maxconns"]) > 0 and int(settings["maxbytes"]) > 0
    classes = {name.split(":")[1] for name in read_facts(monitored.process, "items", line_end="\n")}
    chunks = {name.split(":")[0] for name in read_facts(monitored.process, "slabs", line_end="\n") if name.endswith(":chunk_size")}
    assert classes == chunks and all(map(str.isdigit, classes))


# -- the programs themselves


@pytest.mark.long
@pytest.mark.skipif(shutil.which("collectd") is None, reason="collectd is not installed")
def test_collectd_itself(monitored, tmp_path):
    config = tmp_path / "collectd.conf"
    config.write_text(
        f"""
        Hostname "here"
        FQDNLookup false
        Interval 1
        PIDFile "{tmp_path}/pid"
        BaseDir "{tmp_path}"
        LoadPlugin memcached
        LoadPlugin csv
        <Plugin memcached>
          <Instance "one">
            Host "{HOST}"
            Port "{monitored.process.port}"
          </Instance>
        </Plugin>
        <Plugin csv>
          DataDir "{tmp_path}/csv"
        </Plugin>
        """
    )
    with subprocess.Popen(["collectd", "-f", "-C", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as collectd:
        try:

            def written(pattern):
                return eventually(
                    lambda: list(tmp_path.glob(f"csv/*/memcached-one/{pattern}-*")), within=30, what=f"collectd writes {pattern}"
                )

            (items,) = written("memcached_items-current")
            assert float(eventually(lambda: items.read_text().splitlines()[1:], what="a value")[0].split(",")[1]) == 20
            for pattern in (
                "df-cache",
                "ps_count",
                "memcached_command-touch",
                "memcached_ops-hits",
                "percent-hitratio",
                "memcached_octets",
            ):
                written(pattern)
        finally:
            collectd.terminate()


MUNIN_PLUGIN = Path("/usr/share/munin/plugins/memcached_")


@pytest.mark.long
@pytest.mark.skipif(not MUNIN_PLUGIN.exists() or shutil.which("perl") is None, reason="munin-plugins-extra is not installed")
@pytest.mark.parametrize(
    "graph, names",
    [
        ("bytes", {"memcache_bytes_read", "memcache_bytes_written"}),
        ("rates", {"memcache_cmd_get", "memcache_cmd_set", "memcache_total_connections", "memcache_total_items"}),
        ("counters", {"memcache_bytes_allocated", "memcache_curr_connections", "memcache_curr_items"}),
    ],
)
def test_munin_itself(monitored, tmp_path_factory, graph, names):
    """The name of the plugin's file selects the graph: it is the text after the first `memcached_` in the path."""
    plugin = tmp_path_factory.mktemp("munin") / f"memcached_{graph}"
    plugin.symlink_to(MUNIN_PLUGIN)
    environment = {"host": HOST, "port": str(monitored.process.port), "PATH": "/usr/bin:/bin"}
    told = subprocess.run(["perl", plugin], env=environment, capture_output=True, text=True, check=True, timeout=PROGRAM_TIMEOUT).stdout
    values = dict(line.split(".value ") for line in told.splitlines())
    assert names <= set(values) and all(float(text) >= 0 for text in values.values())
