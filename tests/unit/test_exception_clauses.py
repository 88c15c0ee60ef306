"""Compiled code declares for each function with a C result whether it can raise.

Without a declaration, Cython 0.29 (Debian's) prints "Exception ignored" and continues with a result of 0: the caller does not see the
exception. Cython 3 checks for an exception after each call instead.
"""

import ast
import re
from pathlib import Path

import pytest

import gmproxy

#: A function whose result is not a Python object, up to the end of its line.
_FUNCTION = re.compile(
    r"^\s*cp?def (?:inline )?(?:const )?(?:bint|int|long long|long|Py_ssize_t|size_t|double|float|unsigned[a-z ]*|void|char|uint\w*)[ *]+\w+\((.*)$",
)

DECLARATIONS = sorted(path for path in Path(gmproxy.__file__).parent.rglob("*") if path.suffix in (".pxd", ".pyx"))


@pytest.mark.parametrize("path", DECLARATIONS, ids=lambda path: path.name)
def test_a_function_with_a_c_result_says_whether_it_raises(path: Path) -> None:
    silent = [
        line for line in path.read_text().splitlines() if _FUNCTION.match(line) and not re.search(r"\b(except\??|noexcept)\b|,$", line)
    ]
    assert not silent, silent


#: A module-level alias of a type, as `Callback = Callable[..., None]`.
_ALIAS = re.compile(r"^\w+ = (?:tuple|list|dict|set|frozenset|type|[A-Z][a-z]\w*)\[", re.MULTILINE)


@pytest.mark.parametrize("path", [path.with_suffix(".py") for path in DECLARATIONS if path.suffix == ".pxd"], ids=lambda path: path.name)
def test_no_alias_of_a_type(path: Path) -> None:
    """Debian's Cython 0.29.32 cannot subscript types when a compiled module is loaded. In annotations they are not evaluated."""
    assert not _ALIAS.findall(path.read_text())


def _evaluated_annotations(path: Path) -> list[str]:
    """Annotations of the methods in classes of `path` that are not in its .pxd, if they subscript a type of collections.abc and are
    not strings."""
    tree, types = ast.parse(path.read_text()), path.with_suffix(".pxd").read_text()
    abstract = {
        alias.name for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "collections.abc" for alias in node.names
    }
    plain = [node for node in tree.body if isinstance(node, ast.ClassDef) and not re.search(rf"\b{node.name}\b", types)]
    return [
        f"{path.name}:{node.lineno}"
        for owner in plain
        for function in ast.walk(owner)
        if isinstance(function, ast.FunctionDef)
        for annotation in [*(argument.annotation for argument in function.args.args), function.returns]
        if annotation is not None
        for node in ast.walk(annotation)
        if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") in abstract
    ]


@pytest.mark.parametrize("path", [path.with_suffix(".py") for path in DECLARATIONS if path.suffix == ".pxd"], ids=lambda path: path.name)
def test_no_annotation_that_cython_0_29_cannot_evaluate(path: Path) -> None:
    """The annotations of methods in a class without declared types are evaluated when it is loaded: write them as strings."""
    assert not _evaluated_annotations(path)
