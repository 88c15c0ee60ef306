"""Both builds of a hot module in one process."""

import importlib
import sys

import pytest

from gmproxy.compiled import COMPILED, SourceFinder, hot_modules

needs_both = pytest.mark.skipif(not COMPILED, reason="this process runs the pure build alone")


def from_source(*names):
    """Load the modules `gmproxy.NAME` from their sources, in addition to those that this process runs. They import each other. Returns a list."""
    names = [f"gmproxy.{name}" for name in names]
    finder = SourceFinder({name: path for name, path in hot_modules().items() if name in names})
    running = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.meta_path.insert(0, finder)
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.meta_path.remove(finder)
        for name in names:
            sys.modules.pop(name, None)
            if name in running:
                package, _, leaf = name.rpartition(".")
                sys.modules[name] = running[name]
                setattr(sys.modules[package], leaf, running[name])
