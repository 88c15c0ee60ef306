"""Builds the compiled twins of the hot modules (gmproxy/accel.py says which); all else stands in pyproject.toml.

    GMPROXY_BUILD=auto      compile if it can be done, else install the pure Python build (default)
    GMPROXY_BUILD=require   a failure to compile is a failure
    GMPROXY_BUILD=pure      do not compile
"""

import glob
import os
import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from gmproxy.accel import HOT_MODULES, TWIN_MODULES  # noqa: E402

BUILD = os.environ.get("GMPROXY_BUILD", "auto")
if BUILD not in ("auto", "pure", "require"):
    sys.exit(f"GMPROXY_BUILD={BUILD}: say auto, pure or require")

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,      # offsets are checked where they come from the wire
    "wraparound": True,
    "nonecheck": False,
    "binding": False,
    "auto_pickle": False,
}


def extensions():
    if BUILD == "pure":
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        if BUILD == "require":
            raise
        print("gmproxy: no Cython, so the hot modules are not compiled", file=sys.stderr)
        return []
    wanted = [_extension(name, module.replace(".", "/") + ".py") for name, module in HOT_MODULES.items()]
    wanted += [_extension(name, f"gmproxy/_c/{name}.pyx") for name in TWIN_MODULES]
    return cythonize(wanted, compiler_directives=DIRECTIVES, build_dir="build", force=_types_changed())


def _types_changed():
    """True if a .pxd is newer than what was compiled: Cython looks for a module's .pxd beside its .py, not in _c."""
    compiled = glob.glob("build/gmproxy/**/*.c", recursive=True)
    types = glob.glob("gmproxy/_c/*.pxd")
    return bool(compiled) and max(map(os.path.getmtime, types)) > min(map(os.path.getmtime, compiled))


def _extension(name, source):
    # In auto, `optional` makes a failing compiler a warning. The door then finds the build not whole and runs the .py files.
    depends = [f"gmproxy/_c/{name}.pxd"] if source.endswith(".py") else []
    return Extension(f"gmproxy._c.{name}", [source], depends=depends, optional=BUILD == "auto")


class OneAtATime(build_ext):
    """Says what failed, in one line, where the build goes on without it."""

    def build_extension(self, extension):
        try:
            super().build_extension(extension)
        except Exception as error:
            if BUILD == "require":
                raise
            print(f"gmproxy: {extension.name} not compiled: {error}", file=sys.stderr)


setup(ext_modules=extensions(), cmdclass={"build_ext": OneAtATime})
