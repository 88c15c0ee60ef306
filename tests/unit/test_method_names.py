"""A method name can be searched for: at most three classes define it, unless they share a base class that documents it."""

import ast
from collections import defaultdict
from pathlib import Path

import gmproxy

#: The standard names in Python, of files, sockets and contextlib.closing.
STANDARD = {"close", "write"}

MAX_CLASSES = 3


def test_method_names_are_few_or_shared() -> None:
    trees = [ast.parse(path.read_text()) for path in Path(gmproxy.__file__).parent.rglob("*.py")]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    bases = {node.name: {base.id for base in node.bases if isinstance(base, ast.Name)} - {node.name} for node in classes}

    def root(name: str) -> str:
        ours = sorted(bases[name] & bases.keys())
        return root(ours[0]) if ours else name

    roots = defaultdict(set)
    for node in classes:
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and not method.name.startswith("__"):
                roots[method.name].add(root(node.name))
    assert {name: sorted(found) for name, found in roots.items() if len(found) > MAX_CLASSES and name not in STANDARD} == {}
