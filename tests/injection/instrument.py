"""A copy of gmproxy in which every point can raise: each begins with a call of `_injection.point(number)`.

The periodic checks of the copy have shorter intervals, so that each part of the scenario is short.
"""

import ast
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from injection.points import PACKAGE, Function, Point, find, functions, module_name, sources

#: Timeout of a complete build of the extensions, seconds.
BUILD_TIMEOUT = 900

#: {module: {constant: its value in the copy, seconds}}
QUICKER = {
    "client.sessions": {"ROUND_INTERVAL": 0.05},
    "process.supervisor": {"POLL_INTERVAL": 0.1},
    "process.worker_process": {"SUM_UP_INTERVAL": 0.1},
    "process.worker": {"SUM_UP_EVERY": 0.1},
    "backend.health": {"FIRST_PROBE_DELAY": 0.05},
    "backend.health_check": {"IDENTIFY_AGAIN": 0.2},
    "monitoring.logging_setup": {"WINDOW": 0.5},
    "monitoring.admin_server": {"REPORT_CACHED": 0.0},
    "backend.server_stats": {"KEPT_FOR": 0.0},
    "process.master": {"STEADY": 0.0},
    "monitoring.control_commands": {"LONGEST_SAMPLE": 0.2, "SAMPLE_GRACE": 0.2},
}


def make_copy(target: Path, compiled: bool) -> list[Point]:
    """Write the instrumented package to the new folder `target`, and compile it there if `compiled`. Returns its points: the number of
    each is its index in the list."""
    trees = sources()
    points = find(trees)
    numbers = {(point.module, point.function): number for number, point in enumerate(points)}
    shutil.copytree(PACKAGE, target / "gmproxy", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for path in sorted((target / "gmproxy").rglob("*.py")):
        module = module_name(path, target / "gmproxy")
        if module in trees:
            path.write_text(ast.unparse(_instrumented(module, trees[module], numbers)))
    shutil.copy(Path(__file__).with_name("_injection.py"), target / "gmproxy" / "_injection.py")
    if compiled:
        _compile(target)
    return points


def _instrumented(module: str, tree: ast.Module, numbers: dict[tuple[str, str], int]) -> ast.Module:
    for name, node in functions(tree):
        if (module, name) in numbers:
            number = numbers[module, name]
            _first_block(node).insert(0, ast.parse(f"_injection.point({number})").body[0])
    missing = set(QUICKER.get(module, ())) - {getattr(node.targets[0], "id", "") for node in tree.body if isinstance(node, ast.Assign)}
    assert not missing, f"{module} has no {missing}"
    for node in tree.body:
        constant = getattr(node.targets[0], "id", "") if isinstance(node, ast.Assign) else ""
        if constant in QUICKER.get(module, ()):
            node.value = ast.Constant(QUICKER[module][constant])
    tree.body.insert(0, ast.parse("from gmproxy import _injection").body[0])
    return ast.fix_missing_locations(tree)


def _first_block(node: Function) -> list[ast.stmt]:
    """The block that gets the call, without a docstring: that of a `try` that catches all exceptions or has a `finally`, if no code before it can
    raise; otherwise the function's."""
    if ast.get_docstring(node) is not None:
        node.body.pop(0)
    block = node.body
    while True:
        for statement in block:
            if isinstance(statement, ast.Try) and (statement.finalbody or any(map(_catches_all, statement.handlers))):
                return statement.body
            if isinstance(statement, ast.For) and not _computes(statement.iter):
                block = statement.body
                break
            if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.Global) or _computes(statement):
                return node.body
        else:
            return node.body


def _computes(node: ast.AST | None) -> bool:
    if isinstance(node, ast.AnnAssign):  # an annotation is not evaluated here
        node = node.value
    return node is not None and any(isinstance(part, ast.Call | ast.Subscript) for part in ast.walk(node))


def _catches_all(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or getattr(handler.type, "id", "") in ("Exception", "BaseException")


def _compile(target: Path) -> None:
    root = PACKAGE.parent
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(root / name, target / name)
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "-j", str(os.cpu_count() or 1)],
        cwd=target,
        env=os.environ | {"CFLAGS": "-O0 -g0", "GMPROXY_BUILD": "require"},
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT,
    )
    assert done.returncode == 0, f"the copy cannot be compiled:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


def digest(compiled: bool) -> str:
    """Identifies the sources of a copy: a copy is reused until this changes."""
    state = hashlib.sha256(sys.version.encode())
    ours = [Path(__file__).with_name(name) for name in ("_injection.py", "exceptions.py", "instrument.py", "points.py")]
    for path in [PACKAGE.parent / "setup.py", *sorted(PACKAGE.rglob("*.p*")), *ours]:
        if path.suffix in (".py", ".pyx", ".pxd"):
            state.update(str(path).encode() + path.read_bytes())
    return f"{'compiled' if compiled else 'pure'}-{state.hexdigest()[:16]}"
