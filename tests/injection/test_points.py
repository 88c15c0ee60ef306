"""The list of points is complete, and the points that its exceptions name exist."""

import ast
import functools
from pathlib import Path

import pytest

from injection import exceptions
from injection.points import PACKAGE, find, functions, module_name, sources

PROGRAM = '''
import functools
from gevent.server import StreamServer

def tick(): pass
def calculate(): pass

class Owner:
    def answered(self, request): pass
    def private(self): return calculate()
    def by_name(self, name): return getattr(self, name)

class Plain:
    def hook(self): pass
    def helper(self): pass
    def promise(self):
        """For others to define."""
        raise NotImplementedError

class Server(StreamServer):
    def do_read(self): pass

def begin(loop, request, other):
    def again(): pass
    loop.after(1, again)
    loop.run_callback(functools.partial(tick, 1))
    other.hook()
    other.promise()
    request.owner.answered(request)
'''


def test_what_the_rules_find() -> None:
    found = {point.function: point.rule for point in find({"module": ast.parse(PROGRAM)})}
    assert found == {
        "tick": "callback",
        "begin.again": "callback",
        "Owner.answered": "hook",
        "Plain.hook": "hook",
        "Owner.private": "named",
        "Owner.by_name": "named",
        "Server.do_read": "override",
    }


@functools.cache
def names_of_points() -> set[str]:
    return set(map(str, find(sources())))


@pytest.mark.parametrize(
    "name",
    [
        "backend.connection:BackendConnection.on_readable",
        "process.worker:Worker._tick",
        "monitoring.control_commands:_eject",
        "process.master:Master._on_message",
        "routing.replicated_write:ConditionalWrite.on_reply",
        "client.poller:ClientPoller.on_ready",
        "backend.health:Health.failed",
    ],
)
def test_some_that_must_be_among_them(name: str) -> None:
    assert name in names_of_points()


@functools.cache
def paths_of_modules() -> dict[str, Path]:
    return {module_name(path, PACKAGE): path for path in PACKAGE.rglob("*.py")}


@functools.cache
def functions_in(path: Path) -> set[str]:
    return {name for name, _ in functions(ast.parse(path.read_text()))}


@pytest.mark.parametrize(
    "name, reason", [*exceptions.NOT_INJECTED.items(), *exceptions.NOT_LOGGED.items(), *exceptions.NOT_REACHED.items()]
)
def test_exceptions_exist_and_have_a_reason(name: str, reason: str) -> None:
    module, _, function = name.partition(":")
    paths = paths_of_modules()
    known = [path for other, path in paths.items() if other == module or other.startswith(f"{module}.")]
    assert known, f"there is no module {module}"
    if function:
        assert function in functions_in(paths[module])
    assert reason
