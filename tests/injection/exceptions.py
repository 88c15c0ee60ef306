"""What is left out of the injection, each with its reason. A name that does not exist any more fails a test."""

#: Whole modules ("x" is also all of "x.y"), or single functions "module:Class.method".
NOT_INJECTED = {
    "console": "commands that ask the service: nobody is served by them",
    "demo": "starts the service as a child",
    "ctl": "a command of its own",
    "__main__": "starts cli",
    "__init__": "no code",
    "accel": "imports",
    "errors": "exceptions have no behaviour",
    "internal_errors": "what an injected exception is reported with",
    "protocol.stream": "written in Python and in Cython; its callers are points",
    "protocol.retrieval": "written in Python and in Cython; its callers are points",
    "protocol.packing": "written in Python and in Cython; its callers are points",
    "address": "reads the configuration: conf.Source.read is a point",
    "conf": "reads the configuration: steward.reload and cli catch what it raises, see the unit tests",
    "settings": "reads the configuration",
    "pools": "reads the configuration",
    "users": "reads the configuration",
    "labels": "places servers when a configuration is loaded: placement is a point",
    "distributions": "places servers when a configuration is loaded: placement is a point",
    "hashing": "arithmetic in C under Locator.locate, which is a point",
    "texthash": "arithmetic in C under Locator.locate, which is a point",
    "control:ask": "what gmproxyctl asks with",
    "listener:Listener.stop": "calls gevent's close and nothing else",
    "link:Link.backlog": "arithmetic in C, declared noexcept",
    "worker:Worker._listen": "makes a Listener. Where that fails at a reload the operator is told, and the new place is served after a restart",
    "worker:Worker.drain": "makes each of its steps, whatever became of the others",
    "service:Service._resume": "calls resume_all and nothing else",
    "link:resume_all": "catches what each of the sessions raises, and does nothing else",
}

#: Modules and functions whose faults are not logged. Nobody suffers, all the same.
NOT_LOGGED = {
    "admin.http:Handler.read_request": "what fails while a request is read is taken for a request that is none: 400",
    "admin.http:Handler.MessageClass": "called by read_request",
    "accepting:Limited.note_activity": "called by read_request",
    "events": "the log itself: keeps the latest lines",
    "log_output": "the log itself: writes the lines",
    "logs": "the log itself: leaves lines out where there are too many",
}

#: Points that end all clients of one worker: what comes over the channel to its master cannot be trusted any more, so it is replaced.
ENDS_A_WORKER = ("control:Channel.receive", "control:Channel._read", "loop:Loop._run")

#: Points that no part of the scenario reaches, or only now and then: {reason: names}.
_SELDOM: dict[str, tuple[str, ...]] = {
    "no descriptor is left, or more connections than there may be: tests/process/test_bad_operators.py and those of exhaustion": (
        "accepting:Spare.turn_away", "accepting:Limited._end", "share:Share.others_have_room", "solo:Operator.is_idle",
    ),
    "at the start, the end or an upgrade: test_start_and_end.py": (
        "admin:Admin.stop", "accepting:Limited.stop", "clients:Clients.close", "clock:RunningClock.stop", "control:listen",
        "daemon:Waiting.tell", "daemon:owner", "early:_keep", "files:kind", "hibernation:Hibernation.let_go",
        "hibernation:Hibernation.close", "loop:Loop.every", "master:Master.run", "master:Master.end", "master:Master._kill_all",
        "master:Master.wait_for", "master:Master.wait_for.read", "notify:Notifier.environment", "operators:Operators.stop",
        "places:Places.become_owner", "places:Places.forget", "places:Places.open_control", "places:Places.close",
        "places:Places.handing_over", "pool:Pool.close", "solo:Solo.run", "solo:Solo.run.serving", "solo:Solo.end", "solo:Solo.wait_for",
        "solo:Solo._wait_for", "start:command", "start:_serve", "start:_serve.ready", "steward:Steward.ready", "steward:Steward.end",
        "steward:Steward.gone", "steward:Steward.upgrade", "steward:Steward._start_successor", "steward:Steward._successor_said", "steward:_signal",
        "worker:Worker.end", "worker:Worker._see_off",
    ),
    "only after another fault: tests/unit/test_exactly_once.py": (
        "session:Session.give_up", "admin.http:Handler._refuse", "admin.http:Handler.handle_error",
        "backend:Backend.abandoned", "copies:Outcome.abandoned", "detour:Straggler.abandoned", "gather:Gather.abandoned",
        "gather:FanOut.abandoned", "link:Link.attached", "loop:Loop.pause", "loop:Loop.pause.again", "names:_trouble",
        "operators:Operator._lost", "protocol.message:Request.abandon", "refill:Fetching.abandoned", "refill:Fetch.abandoned",
        "router:Router.never_ready", "router:Router.abandoned", "router:Heir.abandoned", "session:Session.abandoned",
        "worker:_record_exception",
    ),
    "the log to syslog, or to a stderr that is no file": (
        "log_output:Syslog.write", "log_output:Syslog._connect", "log_output:Syslog.close", "log_output:Stderr.write",
        "log_output:Stderr.flush", "log_output:Stderr.fileno",
    ),
    "an operator or a worker that takes its messages late: tests/unit/test_peers.py": (
        "loop:Loop.watch_writing", "loop:Loop.forget_writing", "peers:Peer._wait.look",
    ),
    "servers by name, or with a password: tests/unit/test_net.py, tests/proxy/test_login.py": (
        "names:Names._name", "names:Names._run_lookup", "names:_ask_system", "names:_outcome", "net:_Welcome.ask", "net:_log_in",
        "net:_log_in_by_sasl", "net:_is_line", "waits:Deadline.wait_for",
    ),
    "a distribution that no pool of the scenario has; the one place that asks them, Locator.locate, is reached": (
        "ring:PartOfKey.locate_in", "ring:Buckets.locate_in", "ring:AbsoluteBuckets.locate_in", "ring:FoldedBuckets.locate_in",
        "ring:RandomOwner.locate_in", "ring:Ring.at", "ring:RingBelow.at", "ring:RingBelow.locate_in", "ring:MagentRing.locate_in",
        "ring:Rendezvous.locate_in",
    ),
    "a proxy that is a backup of another: tests/proxy/test_proxy_loops.py": (
        "session:Session.serve_proxy",
    ),
    "by an accident of timing, or by servers that behave otherwise than memcached: tests/unit": (
        "backend:Backend.fails_to_catch_up", "caretaker:Caretaker._catch_up_alone", "caretaker:Caretaker._ended", "control:Channel.fileno", "detour:Detour.fill",
        "detour:Straggler.answered", "health:Health.probe_failed", "health:Health.succeeded", "health:Health.suspect",
        "journal:Journal.not_deleted", "link:Link._read_out_and_fail", "link:Link.on_writable", "manykeys:ManyKeys.discard",
        "measures:Slow.note", "meter:Meter.slow", "probe:_Binary.flush", "protocol.binary:BinaryParser._get",
        "protocol.binary:BinaryParser._mechanisms", "protocol.text:TextParser._check_unfinished", "refill:read_plain",
        "share:Board.clients_of", "share:Share.part_of",
    ),
}

NOT_REACHED = {name: reason for reason, names in _SELDOM.items() for name in names}


def left_out(name: str) -> bool:
    """True if NOT_INJECTED names the module or function `name`, or the package it is in."""
    return _is_named(name, NOT_INJECTED)


def is_logged(name: str) -> bool:
    """False if NOT_LOGGED names it."""
    return not _is_named(name, NOT_LOGGED)


def _is_named(name: str, table: dict[str, str]) -> bool:
    module = name.partition(":")[0]
    return name in table or any(module == other or module.startswith(f"{other}.") for other in table)
