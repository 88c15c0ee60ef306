"""The parts of the scenario. Each takes a Stage and leaves it as it was. The clients judge the replies."""

import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress

from support import packets
from support.servers import HOST
from support.talk import Talk, storage
from support.timing import eventually

from injection.clients import HUNG_AFTER
from injection.stage import Stage

Part = Callable[[Stage], None]

#: Sizes in bytes: a value that the proxy treats as long (LONG in backend/connection.py, BULK_REPLY in client/session.py), and one that does not
#: fit into the kernel's buffers.
LONG = 200 * 1024
LARGEST = 1024 * 1024 - 1024

#: Keys for the pools with one primary.
SOME = [b"some%d" % number for number in range(8)]

TEXT = (
    storage(b"set", b"t1", b"one"),
    storage(b"add", b"t2", b"two"),
    storage(b"replace", b"t1", b"uno"),
    storage(b"append", b"t1", b"!"),
    storage(b"prepend", b"t1", b"!"),
    storage(b"cas", b"t1", b"x", more=b" 1"),
    storage(b"set", b"n", b"1"),
    b"get t1\r\n",
    b"gets t1\r\n",
    b"get t1 t2 t3 n\r\n",
    b"gat 60 t1\r\n",
    b"gats 60 t1 t2 t3 n\r\n",
    b"incr n 2\r\n",
    b"decr n 1\r\n",
    b"touch t1 60\r\n",
    b"delete t2\r\n",
    b"get absent\r\n",
    b"incr absent 1\r\n",
    b"touch absent 9\r\n",
    b"ms m1 3 T60 F1\r\nabc\r\n",
    b"mg m1 t f v k\r\n",
    b"mg m1 c\r\n",
    b"mg absent v\r\n",
    b"ma n\r\n",
    b"md m1 q\r\nmn\r\n",
    b"me n\r\n",
    b"mn\r\n",
    b"md t1\r\n",
    b"ms bTI= 1 b\r\nx\r\n",
    b"mg bTI= b v\r\n",
    b"version\r\n",
    b"verbosity 1\r\n",
    b"stats\r\n",
    b"stats settings\r\n",
    b"stats proxy\r\n",
    b"stats pools\r\n",
    b"stats backends\r\n",
    b"stats items\r\n",
    b"stats cachedump 1 10\r\n",
    b"lru_crawler metadump 1,x\r\n",
    b"get\r\n",
    b"set t1 0 0 2000000 noreply\r\n" + bytes(2000000) + b"\r\nversion\r\n",
    b"nonsense\r\n",
    b"set t1 0 0 x\r\n",
    b"flush_all 1000\r\n",
)


def asking(stage: Stage) -> None:
    """Send every command, in text, meta and binary."""
    for pool in stage.POOLS:
        with stage.actor(pool) as actor:
            for request in TEXT:
                actor.ask(request)
            actor.list_keys()
            _say_quietly(actor)
            actor.ask(b"".join(b"get t%d\r\n" % number for number in range(20)), answers=20)
            actor.ask(b"get n\r\nincr n 1\r\nget n\r\n", answers=3)
            actor.say(b"quit\r\n")
    for pool in ("alpha", "beta"):
        with stage.actor(pool) as actor:
            actor.ask_packets(
                b"".join(
                    (
                        packets.store("set", b"b1", b"one"),
                        packets.packet("get", b"b1"),
                        packets.packet("getkQ", b"absent"),
                        packets.packet("getk", b"absent"),
                        packets.store("set", b"b2", bytes(2000000)),
                        packets.packet("mechanisms"),
                        packets.store("add", b"b1", b"two"),
                        packets.store("replace", b"b1", b"two"),
                        packets.packet("append", b"b1", b"!"),
                        packets.count("incr", b"bn", 1, 5),
                        packets.count("incr", b"bn"),
                        packets.touch("touch", b"b1", 60),
                        packets.touch("gat", b"b1", 60),
                        packets.packet("delete", b"b1"),
                        packets.packet("delete", b"b1"),
                        packets.packet("version"),
                        packets.packet("stat"),
                        packets.packet("flush", extras=(1000).to_bytes(4, "big")),
                        packets.packet("verbosity", extras=bytes(4)),
                        packets.packet(0x77),
                    )
                )
            )
            actor.say(packets.packet("quit"))
    with stage.actor() as actor:
        actor.say(b"get " + b"x" * 3000)
        actor.ask(b" \r\n")
    with stage.actor("gamma", login=False) as actor:
        actor.ask(b"get t1\r\n")
    with stage.actor("gamma", login=False) as actor:
        actor.ask_packets(packets.packet("auth", b"PLAIN", b"\0user\0wrong") + packets.packet("auth", b"PLAIN", b"\0user\0secret"))


def _say_quietly(actor) -> None:
    for words in (b"set q 0 0 1 noreply\r\nx\r\n", b"incr q 1 noreply\r\n", b"add q2 0 0 1 noreply\r\nx\r\n", b"delete q noreply\r\n"):
        actor.say(words)
    actor.ask(b"version\r\n")


def asking_for_much(stage: Stage) -> None:
    """Long values, many replies with them, and a server that reads late."""
    server, key = stage.servers.primaries[0], stage.keys[0][1]
    with stage.actor() as actor:
        actor.ask(storage(b"set", key, b"x" * LONG))
        actor.ask(b"get %b\r\n" % key * 40, answers=40)
        closed = actor.closed
        server.pause()
        try:
            actor.say(storage(b"set", key, b"x" * LARGEST) * 12)  # more than the kernel's buffers hold
        finally:
            server.resume()
        actor.ask(b"get %b\r\n" % key, answers=13 if actor.closed == closed else 1)
        _all_back(stage)


def crowding(stage: Stage) -> None:
    """More clients than max_connections."""
    talks = []
    for _ in range(12):
        with suppress(OSError):
            talks.append(stage.connector("gamma")())
    for talk in talks:
        with suppress(AssertionError, OSError):
            talk.ask(b"version\r\n")
        talk.close()


def sleeping(stage: Stage) -> None:
    """Two clients are idle until they are hibernated; then one sends a request and one disconnects."""
    with stage.actor() as one, stage.actor() as other:
        one.ask(b"get t1\r\n")
        other.ask_packets(packets.packet("version"))
        eventually(lambda: stage.stats("alpha")["sleeping_connections"] == 2 or stage.injector.has_raised(), within=HUNG_AFTER)
        one.ask(b"get t1\r\n")


def hanging(stage: Stage) -> None:
    """A server is stopped and replies late, while its keys are written."""
    server, keys = stage.servers.primaries[0], stage.keys[0]
    with stage.actor() as reader, stage.actor() as writer:
        for key in keys[:6]:
            writer.ask(storage(b"set", key, b"before"))
        server.pause()
        try:
            reader.ask(b"gat 60 %b\r\n" % b" ".join(key for each in stage.keys for key in each[:4]))
            for key in keys[:6]:
                writer.ask(storage(b"set", key, b"after"))
                writer.ask(b"incr %b 1\r\n" % key)
                reader.ask(b"get %b\r\n" % key)
            writer.ask(b"touch %b 60\r\nms %b 1 T9000\r\nx\r\nadd %b 0 0 1\r\nx\r\n" % (keys[0], keys[1], keys[2]), answers=3)
            writer.ask(b"flush_all\r\n")
        finally:
            server.resume()
        _all_back(stage)
        reader.ask(b"get %b\r\n" % b" ".join(keys[:6]))


def dying(stage: Stage) -> None:
    """In each pool a server dies, and is restarted with an empty memory."""
    for pool, server, keys in (
        ("alpha", stage.servers.primaries[1], stage.keys[1]),
        ("beta", stage.servers.others[0], SOME),
        ("gamma", stage.servers.others[2], SOME),
        ("delta", stage.servers.others[4], SOME),
    ):
        with stage.actor(pool) as actor:
            for key in keys[:7]:
                actor.ask(storage(b"set", key, b"1"))
            server.kill()
            try:
                for key in keys[:3]:
                    actor.ask(b"get %b\r\n" % key)
                    actor.ask(storage(b"set", key, b"2"))
                actor.ask(storage(b"add", keys[3], b"2"))
            finally:
                server.restart()
            _all_back(stage, pool)
            actor.ask(b"mg %b v t\r\n" % keys[6])
            actor.ask(b"get %b\r\n" % keys[4])
            actor.ask(b"get %b\r\n" % b" ".join(keys[:6]))
            actor.ask(b"incr %b 1\r\n" % keys[5])
            actor.ask(storage(b"set", keys[0], b"3"))


def losing_a_backup(stage: Stage) -> None:
    """A backup dies, and is restarted with an empty memory."""
    server = stage.servers.backups[0]
    with stage.actor() as actor:
        server.kill()
        try:
            for keys in stage.keys:
                for key in keys[:6]:
                    actor.ask(storage(b"set", key, b"3"))
        finally:
            server.restart()
        _all_back(stage)


def _all_back(stage: Stage, pool: str = "alpha") -> None:
    """Wait until no server is ejected, for at most HUNG_AFTER / 2: the injected exception may prevent it."""
    with suppress(AssertionError, OSError):
        eventually(lambda: not stage.stats(pool)["backends_ejected"], within=HUNG_AFTER / 2)


def ordering(stage: Stage) -> None:
    """All control commands except those that disconnect clients."""
    label = stage.servers.primaries[2].address
    for words in (
        ("pids",),
        ("report",),
        ("servers",),
        ("slow",),
        ("route", "key1"),
        ("eject", label),
        ("restore", label),
        ("log-level",),
        ("log-level", "info"),
        ("stats", "alpha"),
        ("ping",),
        ("hotkeys", "0.1"),
        ("tail", "10", "0.1"),
        ("owed",),
        ("owed", label),
        ("owed-flush", label),
        ("owed-drop", label),
        ("fills", "off"),
        ("fills", "on"),
        ("journal",),
        ("verify", "5", "repair", "1"),
        ("verify", "0", "report", "1"),
        ("reopen_logs",),
        ("nonsense",),
        ("eject", "nobody"),
        ("tail", "x"),
    ):
        with suppress(OSError, EOFError, ValueError):  # the exception may close the connection; Stage.settle checks that the proxy serves
            stage.order(*words)
    with suppress(OSError, EOFError, ValueError):
        stage.order("restore", label)


def refilling(stage: Stage) -> None:
    """A replica set is switched off and on, and one of its servers is filled."""
    server = stage.servers.sets[1]
    with stage.actor("epsilon") as actor:
        for key in SOME:
            actor.ask(storage(b"set", key, b"v"))
    for words in (
        ("replica",),
        ("replica", "far", "off"),
        ("route", "key1"),
        ("verify", "5", "repair", "1", "epsilon"),
        ("replica", "far", "on"),
        ("verify", "5", "repair", "1", "epsilon"),
        ("refill-begin", server.address, "1000"),
        ("refill",),
        ("refill-begin", server.address, "1"),
        ("refill-stop", server.address),
        ("replica", "nobody", "off"),
    ):
        with suppress(OSError, EOFError, ValueError):
            stage.order(*words)
        if words[0] in ("replica", "refill"):
            with suppress(AssertionError, OSError, EOFError, ValueError):
                eventually(lambda: not _is_busy(stage), within=HUNG_AFTER / 2)
    with suppress(OSError, EOFError, ValueError):
        stage.order("replica", "far", "on")


def _is_busy(stage: Stage) -> bool:
    """True while a server is being flushed or filled."""
    if any(one["state"] == "running" for one in stage.order("refill").get("refills", [])):
        return True
    return any(not one["switched_off"] for one in stage.order("owed").get("servers", []))


def resetting(stage: Stage) -> None:
    with suppress(OSError, EOFError, ValueError):
        stage.order("reset", "alpha")


def looking(stage: Stage) -> None:
    """All pages of the admin listener, and the --stats-port."""
    for path in ("/", "/metrics", "/healthz", "/stats.json", "/config", "/report.json", "/history.json", "/route?key=key1", "/absent"):
        with suppress(OSError):
            urllib.request.urlopen(f"http://{HOST}:{stage.admin}{path}", timeout=HUNG_AFTER).read()
    with suppress(OSError, AssertionError), Talk(stage.stats_port) as talk:
        talk.read_until(b"\n")


def reloading(stage: Stage) -> None:
    """Reload with one more server, then with an invalid file, then as before; reopen the log."""
    _reload(stage, servers=[f"{server.address}:1" for server in stage.servers.others[3:5]])
    _reload(stage, timeout="never")
    stage.proxy.signal(signal.SIGUSR1)
    _reload(stage)


def removing_a_server(stage: Stage) -> None:
    """A reload removes a server that has connections. They are closed when no request waits for them."""
    server = stage.servers.others[3]
    before = server.stats()["curr_connections"]
    _reload(stage, servers=[f"{server.address}:1"])
    _reload(stage)
    with suppress(AssertionError):
        eventually(lambda: server.stats()["curr_connections"] <= before or stage.injector.has_raised(), within=HUNG_AFTER)


def _reload(stage: Stage, **changes: object) -> None:
    stage.configure(**changes)
    with suppress(OSError, EOFError, ValueError):
        eventually(lambda: "in progress" not in stage.order("reload").get("error", ""), within=HUNG_AFTER)  # --watch may reload, too


def draining(stage: Stage) -> None:
    """Drain the proxy; a reload accepts clients again."""
    with suppress(OSError, EOFError, ValueError):
        stage.order("drain")
    _reload(stage)


def losing_a_worker(stage: Stage) -> None:
    """One of several workers is killed."""
    workers = stage.order("pids")["workers"]
    started = stage.proxy.log().count(" INFO serving ")
    os.kill(workers[0], signal.SIGKILL)
    eventually(lambda: len(set(stage.order("pids")["workers"]) - {workers[0]}) == len(workers), within=HUNG_AFTER)
    eventually(lambda: stage.proxy.log().count(" INFO serving ") > started, within=HUNG_AFTER, what="the new worker serves")


#: A point is tried in the first of these that reaches it.
PARTS: dict[str, Part] = {
    part.__name__: part
    for part in (
        asking,
        looking,
        ordering,
        refilling,
        resetting,
        reloading,
        asking_for_much,
        crowding,
        dying,
        hanging,
        losing_a_backup,
        removing_a_server,
        draining,
        losing_a_worker,
        sleeping,
    )
}

#: Parts that close connections of clients.
CLOSING = ("crowding", "draining", "losing_a_worker")

#: Parts that reload. After each of them another reload must succeed, whatever was injected.
RELOADING = ("reloading", "removing_a_server", "draining")

#: Parts that need several workers.
FOR_WORKERS = ("losing_a_worker",)
