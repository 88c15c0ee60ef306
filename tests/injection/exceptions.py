"""What is left out of the injection, each with its reason. A name that does not exist any more fails a test."""

#: Whole modules ("x" is also all of "x.y"), or single functions "module:Class.method".
NOT_INJECTED = {
    "console": "commands that ask the service: nobody is served by them",
    "demo": "starts the service as a child",
    "ctl": "a command of its own",
    "__main__": "starts cli",
    "__init__": "no code",
    "compiled": "imports",
    "errors": "exceptions have no behaviour",
    "internal_errors": "what an injected exception is reported with",
    "transport.plain": "written in Python and in Cython; its callers are points",
    "transport.epoll": "written in Python and in Cython; its callers are points",
    "protocol.recv_buffer": "written in Python and in Cython; its callers are points",
    "protocol.key_list": "written in Python and in Cython; its callers are points",
    "protocol.value_header": "arithmetic in C under the parsers of replies, which are points",
    "protocol.binary.codec": "written in Python and in Cython; its callers are points",
    "placement.server_spec": "reads the configuration: config.configuration:ConfigSource.load is a point",
    "config.configuration": "reads the configuration: steward.reload and cli catch what it raises, see the unit tests",
    "config.settings": "reads the configuration",
    "config.nutcracker": "reads the configuration",
    "config.credentials": "reads the configuration",
    "placement.labels": "places servers when a configuration is loaded: placement is a point",
    "placement.distributions": "places servers when a configuration is loaded: placement is a point",
    "placement.hashes": "arithmetic in C under Locator.locate, which is a point",
    "placement.murmur3": "arithmetic in C under Locator.locate, which is a point",
    "placement.hashes_utf16": "arithmetic in C under Locator.locate, which is a point",
    "system.control_socket:send_command": "what gmproxyctl asks with",
    "client.listener:Listener.stop": "calls gevent's close and nothing else",
    "backend.connection:BackendConnection.backlog": "arithmetic in C, declared noexcept",
    "process.worker:Worker._listen": "makes a Listener. Where that fails at a reload the operator is told, and the address is served after a restart",
    "process.worker:Worker.drain": "makes each of its steps, whatever became of the others",
    "client.context:PoolContext._resume": "calls resume_all and nothing else",
    "backend.connection:resume_all": "catches what each of the sessions raises, and does nothing else",
}

#: Modules and functions whose faults are not logged. Nobody suffers, all the same.
NOT_LOGGED = {
    "monitoring.http_server:HttpHandler.read_request": "what fails while a request is read is taken for a request that is none: 400",
    "monitoring.http_server:HttpHandler.MessageClass": "called by read_request",
    "transport.accept:Limited.note_activity": "called by read_request",
    "monitoring.events": "the log itself: keeps the latest lines",
    "monitoring.log_output": "the log itself: writes the lines",
    "monitoring.logging_setup": "the log itself: leaves lines out where there are too many",
}

#: Points that end all clients of one worker: what comes over the channel to its master cannot be trusted any more, so it is replaced.
ENDS_A_WORKER = ("system.control_socket:Channel.receive", "system.control_socket:Channel._decode", "system.select_loop:SelectLoop._run")

#: Points that no part of the scenario reaches, or only now and then: {reason: names}.
_SELDOM: dict[str, tuple[str, ...]] = {
    "no descriptor is left, or more connections than there may be: tests/process/test_bad_operators.py and those of exhaustion": (
        "transport.accept:Spare.turn_away",
        "transport.accept:Limited._end",
        "process.worker_context:WorkerContext.others_have_room",
        "process.control_server:Operator.is_idle",
    ),
    "at the start, the end or an upgrade: test_start_and_end.py": (
        "monitoring.admin_server:AdminServer.close_listeners",
        "process.worker_group:WorkerGroup.wait_for_successor.finish",
        "process.worker_rpc:Child.send_command",
        "transport.accept:Limited.stop",
        "client.sessions:Sessions.close",
        "system.clock:RunningClock.stop",
        "system.control_socket:listen",
        "system.daemon:StartReport.report",
        "system.daemon:user_ids",
        "system.bootstrap:_hold",
        "system.safe_files:kind",
        "system.select_loop:SelectLoop.call_every",
        "process.master:Master.run",
        "process.master:Master.end_all",
        "process.master:Master._kill_all",
        "process.worker_group:WorkerGroup.wait_for_successor",
        "process.worker_group:WorkerGroup.wait_for_successor.read",
        "system.systemd:Notifier.environment",
        "process.control_server:ControlListener.stop_accepting",
        "process.listeners:ListeningSockets.become_owner",
        "process.listeners:ListeningSockets.discard",
        "process.listeners:ListeningSockets.open_control",
        "process.listeners:ListeningSockets.close",
        "process.listeners:ListeningSockets.handing_over",
        "pool:Pool.shut_down",
        "process.single_process:SingleProcess.run",
        "process.single_process:SingleProcess.run.serving",
        "process.single_process:SingleProcess.end_all",
        "process.single_process:SingleProcess.wait_for_successor",
        "process.single_process:SingleProcess.wait_for_successor.finish",
        "startup:_serve",
        "startup:_serve.ready",
        "process.supervisor:Supervisor.on_ready",
        "process.supervisor:Supervisor.shut_down",
        "process.supervisor:Supervisor.clean_up",
        "process.supervisor:Supervisor.upgrade",
        "process.supervisor:Supervisor._start_successor",
        "process.supervisor:Supervisor._on_successor_report",
        "process.supervisor:_signal",
        "process.worker:Worker.end",
        "process.worker:Worker._disconnect_clients",
    ),
    "only after another fault: tests/unit/test_exactly_once.py": (
        "client.session:Session.give_up",
        "monitoring.http_server:HttpHandler._refuse",
        "monitoring.http_server:HttpHandler.handle_error",
        "backend.backend:Backend.request_abandoned",
        "routing.replicate:Outcome.on_internal_error",
        "routing.failover:Straggler.on_internal_error",
        "routing.multiget:Gather.on_internal_error",
        "routing.multiget:FanOut.on_internal_error",
        "backend.connection:BackendConnection.attached",
        "system.select_loop:SelectLoop.pause",
        "system.select_loop:SelectLoop.pause.resume",
        "backend.resolver:_trouble",
        "process.control_server:Operator._on_lost",
        "protocol.request:Request.abandon",
        "routing.fill:Fetching.on_internal_error",
        "routing.fill:Fetch.on_internal_error",
        "routing.router:Router.never_ready",
        "routing.router:Router.on_internal_error",
        "routing.router:Heir.on_internal_error",
        "client.batch:Batch.on_internal_error",
        "process.worker:_record_exception",
    ),
    "the log to syslog, or to a stderr that is no file": (
        "monitoring.log_output:SyslogOutput.write_line",
        "monitoring.log_output:SyslogOutput._connect",
        "monitoring.log_output:SyslogOutput.close",
        "monitoring.log_output:NonBlockingStderr.write",
        "monitoring.log_output:NonBlockingStderr.flush",
        "monitoring.log_output:NonBlockingStderr.fileno",
    ),
    "an operator or a worker that takes its messages late: tests/unit/test_peers.py": (
        "system.select_loop:SelectLoop.add_writer",
        "system.select_loop:SelectLoop.remove_writer",
        "process.gevent_loop:GeventLoop.add_writer",
        "process.gevent_loop:GeventLoop.remove_writer",
        "process.peer:Peer._start_timer.check",
    ),
    "servers by name, or with a password: tests/unit/test_net.py, tests/proxy/test_login.py": (
        "backend.resolver:Names._name",
        "backend.resolver:Names._run_lookup",
        "backend.resolver:_ask_system",
        "backend.resolver:_outcome",
        "backend.connect:_Welcome.ask",
        "backend.connect:_log_in",
        "backend.connect:_log_in_by_sasl",
        "backend.connect:_is_line",
        "transport.deadline:Deadline.wait_for",
    ),
    "a distribution that no pool of the scenario has; the one place that asks them, Locator.locate, is reached": (
        "placement.locators:HashTagLocator.locate_in",
        "placement.locators:Buckets.locate_in",
        "placement.locators:AbsoluteBuckets.locate_in",
        "placement.locators:FoldedBuckets.locate_in",
        "placement.locators:RandomOwner.locate_in",
        "placement.locators:Ring.at",
        "placement.locators:RingBelow.at",
        "placement.locators:RingBelow.locate_in",
        "placement.locators:MagentRing.locate_in",
        "placement.locators:Rendezvous.locate_in",
    ),
    "a proxy that is a backup of another: tests/proxy/test_proxy_loops.py": ("client.batch:Batch.serve_proxy",),
    "by an accident of timing, or by servers that behave otherwise than memcached: tests/unit": (
        "monitoring.sampling:SpaceSaving._replace_rarest",
        "protocol.internal_commands:delete",
        "backend.backend:Backend.fails_to_catch_up",
        "backend.recovery:Recovery.try_to_catch_up",
        "backend.recovery:Recovery._ended",
        "system.control_socket:Channel.fileno",
        "routing.failover:Detour.fill",
        "routing.failover:Straggler.on_reply",
        "backend.health:Health.probe_failed",
        "backend.health:Health.succeeded",
        "backend.health:Health.suspect",
        "backend.invalidations:PendingInvalidations.not_deleted",
        "backend.connection:BackendConnection._read_out_and_fail",
        "backend.connection:BackendConnection.on_writable",
        "backend.key_set:KeySet.discard",
        "monitoring.slow_log:SlowLog.record_request",
        "backend.latency:Meter.slow",
        "backend.control_connection:_BinaryConnection.flush",
        "protocol.binary.requests:BinaryParser._get",
        "protocol.binary.requests:BinaryParser._mechanisms",
        "protocol.text.requests:TextParser._check_unfinished",
        "routing.fill:parse_get",
        "process.client_counts:ClientCounts.clients_of_worker",
        "process.worker_context:WorkerContext.part_of",
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
