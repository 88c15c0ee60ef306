"""The functions in which an exception is injected: a list made from the source, so that it includes each new callback.

A function is a point if one of these rules finds its name. The rules compare names only, and find too many functions rather than too few:

    callback   it is used as a value: passed to the loop, to a greenlet, a partial or another function, or stored in a table
    hook       a method that is called on an object other than `self`
    named      a method of a class that looks up its own methods by name (getattr)
    override   a method of a class that derives from a class of another package, which may call it
"""

import ast
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import gmproxy
from injection.exceptions import left_out

PACKAGE = Path(gmproxy.__file__).parent

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Point(NamedTuple):
    """A function of the package: its module without `gmproxy.`, its qualified name, and the rule that found it."""

    module: str
    function: str
    rule: str

    def __str__(self) -> str:
        return f"{self.module}:{self.function}"


def module_name(path: Path, package: Path) -> str:
    """The name of the module at `path` relative to `package`."""
    return ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")


def sources(package: Path = PACKAGE) -> dict[str, ast.Module]:
    """{module: its syntax tree}, without the modules that exceptions.py leaves out."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        name = module_name(path, package)
        if not left_out(name):
            found[name] = ast.parse(path.read_text())
    return found


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Every function in `tree` with its qualified name (`Class.method`, `function.inner`)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield prefix + node.name, node
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        else:
            yield from functions(node, prefix)


def find(trees: dict[str, ast.Module]) -> list[Point]:
    """The points of these modules, in the order of the source. Constructors are not points (their callers are), nor are abstract
    methods."""
    values, hooks = _values(trees), _hooks(trees)
    classes = {node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    points = []
    for module, tree in trees.items():
        named, overrides = _methods_of(tree, _looks_up_its_own), _methods_of(tree, functools.partial(_derives_from_outside, classes))
        for name, node in functions(tree):
            is_method = "." in name
            rule = (
                "callback"
                if node.name in values
                else "hook"
                if is_method and node.name in hooks
                else "named"
                if node in named
                else "override"
                if node in overrides
                else None
            )
            if rule and not node.name.startswith("__") and not _is_abstract(node) and not left_out(f"{module}:{name}"):
                points.append(Point(module, name, rule))
    return points


def _methods_of(tree: ast.Module, which: Callable[[ast.ClassDef], bool]) -> set[Function]:
    """The methods of the classes for which `which` returns True."""
    return {
        method
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and which(node)
        for method in node.body
        if isinstance(method, Function)
    }


def _looks_up_its_own(node: ast.ClassDef) -> bool:
    return any(
        isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "getattr" and _is_self(call.args[0])
        for call in ast.walk(node)
    )


def _derives_from_outside(classes: set[str], node: ast.ClassDef) -> bool:
    """True if a base class is not one of `classes`. Exceptions and NamedTuples do not count."""
    names = {base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases}
    return bool(names - classes - {"Exception", "NamedTuple"})


def _is_abstract(node: Function) -> bool:
    if any(getattr(decorator, "id", "") == "abstractmethod" for decorator in node.decorator_list):
        return True
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    if len(body) != 1:
        return False
    is_protocol = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and body[0].value.value is ...
    return is_protocol or (isinstance(body[0], ast.Raise) and getattr(body[0].exc, "id", "") == "NotImplementedError")


def _values(trees: dict[str, ast.Module]) -> set[str]:
    """Names that are used as values, not called."""
    found = set()
    for tree in trees.values():
        called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name | ast.Attribute) and id(node) not in called and isinstance(node.ctx, ast.Load):
                found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found


def _hooks(trees: dict[str, ast.Module]) -> set[str]:
    """Names of methods that are called on objects other than `self`."""
    return {
        node.func.attr
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not _is_self(node.func.value)
    }


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"
