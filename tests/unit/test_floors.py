"""Imports go downward only: a package imports from those below it, and never in a circle. Compiled modules are checked like all others."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from support.servers import environment
from support.timing import PROGRAM_TIMEOUT

import gmproxy

#: The packages and the single files beside them, from bottom to top.
FLOORS = (
    "__init__ compiled errors internal_errors",
    "system",
    "transport",
    "placement",
    "protocol",
    "config",
    "shared",
    "backend",
    "routing",
    "client",
    "monitoring",
    "pool",
    "process",
    "console startup cli ctl demo __main__",
)

#: These packages and modules run before the fork or are pure: they must not start an event loop.
WITHOUT_GEVENT = ("system", "placement", "protocol", "config", "shared")
MASTER = ("startup", "process.supervisor", "process.master")

HERE = Path(gmproxy.__file__).parent
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names.split()}


def module_name(path):
    return ".".join(path.relative_to(HERE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path) for path in HERE.rglob("*.py")}
FILES = sorted(path for pattern in ("*.py", "*.pyx", "*.pxd") for path in HERE.rglob(pattern))


def package_of(module):
    return module.partition(".")[0]


def imports(path):
    """The modules of gmproxy that the file imports or cimports, even if only for its annotations."""
    found = set()
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are absolute"
                found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    else:
        found |= set(re.findall(r"^from (gmproxy\.[\w.]+) c?import", path.read_text(), re.MULTILINE))
    return {module.removeprefix("gmproxy.") for module in found} & MODULES - {module_name(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HERE)))
def test_imports_go_downward(path):
    package = package_of(module_name(path))
    assert package in FLOOR_OF, f"on which floor is {package}? Say so in FLOORS"
    above = {other for other in imports(path) if FLOOR_OF[package_of(other)] > FLOOR_OF[package]}
    assert not above


def test_no_circles():
    """Nor between the modules of one package."""
    graph = {}
    for path in FILES:
        graph.setdefault(module_name(path), set()).update(imports(path) - {"__init__"})
    list(TopologicalSorter(graph).static_order())


def test_every_floor_is_there():
    assert set(FLOOR_OF) == {package_of(module_name(path)) for path in FILES} | {"__init__"}


def run_without_gevent(modules):
    code = "import sys, importlib; sys.modules['gevent'] = None\nfor name in sys.argv[1:]: importlib.import_module('gmproxy.' + name)"
    subprocess.run([sys.executable, "-c", code, *modules], env=environment(), check=True, timeout=PROGRAM_TIMEOUT)


def test_the_lower_floors_need_no_gevent():
    """Modules that run before the fork, and pure ones, must not start an event loop."""
    run_without_gevent(sorted(module for module in MODULES if package_of(module) in WITHOUT_GEVENT))


def test_the_master_needs_no_gevent():
    """It forks the workers, which start gevent."""
    run_without_gevent(MASTER)
