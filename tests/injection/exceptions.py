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
    "service:Service._resume": "calls resume_all and nothing else",
    "link:resume_all": "catches what each of the sessions raises, and does nothing else",
}

#: Modules and functions that are the log itself: what fails in there cannot be logged. Nobody suffers, all the same.
NOT_LOGGED = {
    "events": "keeps the latest lines",
    "log_output": "writes the lines",
    "logs": "leaves lines out where there are too many",
}

#: Points that no part of the scenario reaches.
NOT_REACHED: dict[str, str] = {}


def left_out(name: str) -> bool:
    """True if NOT_INJECTED names the module or function `name`, or the package it is in."""
    return _is_named(name, NOT_INJECTED)


def is_logged(name: str) -> bool:
    """False if NOT_LOGGED names it."""
    return not _is_named(name, NOT_LOGGED)


def _is_named(name: str, table: dict[str, str]) -> bool:
    module = name.partition(":")[0]
    return name in table or any(module == other or module.startswith(f"{other}.") for other in table)
