"""Chooses the build of the hot modules that this process runs: the compiled extensions or the Python sources.

A hot module has a `.pxd` beside it. setup.py compiles it to an extension in the same directory, from its `.pyx` if there is one, else from its
`.py`. Python prefers an extension to a source, so every module is imported by its plain name in both builds. This module makes sure that a
process never mixes the two, since compiled classes depend on each other's layout, and never runs an extension that is older than its source.

    GMPROXY_PURE=1      run the sources even where the extensions are installed
"""

import hashlib
import importlib.machinery
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent

#: Written by setup.py: {source, relative to this directory: its SHA-256 when it was compiled}.
SOURCES = HERE / "compiled_sources.json"

PURE_ASKED = os.environ.get("GMPROXY_PURE", "") not in ("", "0")


def hot_modules() -> dict[str, Path]:
    """{name of a hot module: its `.py`}, for all of them."""
    modules = {}
    for pxd in sorted(HERE.glob("**/*.pxd")):
        parts = pxd.relative_to(HERE.parent).with_suffix("").parts
        modules[".".join(parts)] = pxd.with_suffix(".py")
    return modules


def digests() -> dict[str, str]:
    """{source, relative to this directory: its SHA-256}, for all sources of the extensions."""
    sources = {}
    for path in hot_modules().values():
        for source in (path, path.with_suffix(".pyx"), path.with_suffix(".pxd")):
            if source.exists():
                sources[source.relative_to(HERE).as_posix()] = hashlib.sha256(source.read_bytes()).hexdigest()
    return sources


def extension_of(source: Path) -> Path | None:
    """The extension beside `source` for this Python; None if there is none."""
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = source.with_name(source.stem + suffix)
        if path.exists():
            return path
    return None


def _is_complete() -> bool:
    """True if every hot module has an extension. Raises ImportError if a source was changed after it was compiled."""
    if not SOURCES.exists() or not all(map(extension_of, hot_modules().values())):
        return False
    compiled = json.loads(SOURCES.read_text())
    now = digests()
    changed = sorted(name for name in now if compiled.get(name) != now[name])
    if changed:
        raise ImportError(f"gmproxy/{changed[0]} was changed after it was compiled: run `make build`, or set GMPROXY_PURE=1")
    return True


class SourceFinder:
    """An importlib.abc.MetaPathFinder that finds the sources of the hot modules, where Python would find their extensions."""

    def __init__(self, modules: dict[str, Path]) -> None:
        self._modules = modules

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        source = self._modules.get(name)
        if source is None:
            return None
        loader = importlib.machinery.SourceFileLoader(name, str(source))
        return importlib.util.spec_from_file_location(name, source, loader=loader)


#: True if this process runs the extensions. If one of them is missing, it runs the sources of all.
COMPILED = not PURE_ASKED and _is_complete()

BUILD = "compiled" if COMPILED else "pure"


def choose_build() -> None:
    """Have all hot modules imported from one build. Called by the package itself, before any of them is imported."""
    if not COMPILED:
        sys.meta_path.insert(0, SourceFinder(hot_modules()))
