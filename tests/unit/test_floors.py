"""Imports go downward only: a file imports from its own floor or from below, and never in a circle."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from support.servers import environment

import gmproxy
from gmproxy.accel import HOT_MODULES, TWIN_MODULES

#: From the ground up.
FLOORS = (
    "__init__ errors accel events internal_errors clock early files",
    "address users texthash hashing ring labels distributions profiles placement health manykeys journal detour meter measures sampling "
    "protocol protocol.limits protocol.numbers protocol.values protocol.cas_numbers protocol.retrieval protocol.message protocol.stream protocol.meta "
    "protocol.text protocol.binary_answers protocol.binary protocol.retold protocol.orders protocol.reply protocol.packing protocol.packets protocol.in_binary "
    "protocol.binary_link",
    "settings pools conf share sockets control places daemon title heap logs loop notify watch reload log_output peers operators descriptors",
    "waits names net probe lingering hibernation accepting",
    "link caretaker insides",
    "backend",
    "gather copies refill router",
    "stats service clients session report",
    "listener operations ledger admin.http admin.prometheus admin.twemproxy",
    "pool admin",
    "worker",
    "member steward",
    "solo master",
    "console console.check console.orders console.placed console.questions console.rates console.route console.service console.status "
    "console.table console.top console.units demo start cli ctl __main__",
)
LAST_WITHOUT_GEVENT = 2

HERE = Path(gmproxy.__file__).parent
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names.split()}
FILES = {
    str(path.relative_to(HERE).with_suffix("")).replace("/", ".").replace(".__init__", ""): path
    for path in sorted(HERE.rglob("*.py")) if "_c" not in path.parts
}


def imports(name):
    """The modules of ours that the file imports, also those it picks a build of."""
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "pick" and name != "accel":
            found.add((HOT_MODULES | TWIN_MODULES)[node.args[0].value])
    return {module.removeprefix("gmproxy.") for module in found} & set(FILES) - {name}


@pytest.mark.parametrize("name", FILES)
def test_every_file_has_a_floor_and_imports_from_no_higher_one(name):
    assert name in FLOOR_OF, f"on which floor is {name}? Say so in FLOORS"
    above = {other for other in imports(name) if FLOOR_OF[other] > FLOOR_OF[name]}
    assert not above


def test_no_circles():
    list(TopologicalSorter({name: imports(name) for name in FILES}).static_order())


def test_every_floor_is_made_of_files():
    assert set(FLOOR_OF) == set(FILES)


def test_the_lower_floors_need_no_gevent():
    """What runs before the fork, and what is pure, must not begin a loop."""
    names = [name for name, floor in FLOOR_OF.items() if floor <= LAST_WITHOUT_GEVENT and name != "__init__"]
    code = "import sys, importlib; sys.modules['gevent'] = None\nfor name in sys.argv[1:]: importlib.import_module('gmproxy.' + name)"
    subprocess.run([sys.executable, "-c", code, *names], env=environment(), check=True)


def test_the_master_needs_no_gevent():
    """It forks the workers, in which gevent begins."""
    code = "import sys; sys.modules['gevent'] = None; import gmproxy.cli, gmproxy.steward, gmproxy.master"
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)
