"""Compiles the hot modules (gmproxy/compiled.py says which); all else stands in pyproject.toml.

GMPROXY_BUILD=auto      compile if it can be done, else install the pure Python build (default)
GMPROXY_BUILD=require   a failure to compile is a failure
GMPROXY_BUILD=pure      do not compile

The extensions are stripped, and made without debug information, unless CFLAGS has a -g, as in a build of a Debian package. Python's own
flags have one, and with it the files are six times as large.
"""

import importlib.util
import itertools
import json
import os
import sys
from pathlib import Path

import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

BUILD = os.environ.get("GMPROXY_BUILD", "auto")
if BUILD not in ("auto", "pure", "require"):
    sys.exit(f"GMPROXY_BUILD={BUILD}: say auto, pure or require")

#: By path, since the package itself needs what pip has not installed yet.
_spec = importlib.util.spec_from_file_location("compiled", Path(__file__).resolve().parent / "gmproxy" / "compiled.py")
os.environ["GMPROXY_PURE"] = "1"  # here it only lists the modules
compiled = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(compiled)

CPUS = len(os.sched_getaffinity(0))

STRIPPED = {} if "-g" in os.environ.get("CFLAGS", "").split() else {"extra_compile_args": ["-g0"], "extra_link_args": ["-Wl,-s"]}

#: setuptools 77 and newer writes License-Expression (PEP 639), and warns of any other form; Debian 12 has 66, which knows License alone
#: and refuses the text in pyproject.toml. So it stands here.
LICENSE = {"license_expression" if int(setuptools.__version__.split(".")[0]) >= 77 else "license": "Apache-2.0"}

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,  # offsets are checked where they come from the wire
    "wraparound": True,
    "nonecheck": False,
    "binding": False,
    "auto_pickle": False,
    "annotation_typing": False,  # annotations are for readers and mypy; C types stand in the .pxd
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
    wanted = [_extension(name, source) for name, source in compiled.hot_modules().items()]
    return cythonize(wanted, compiler_directives=DIRECTIVES, build_dir="build", nthreads=CPUS)


def _extension(name, source):
    # In auto, `optional` makes a failing compiler a warning. The build is then not complete, and the .py files run.
    twin = source.with_suffix(".pyx")
    path = twin if twin.exists() else source
    return Extension(name, [os.path.relpath(path)], optional=BUILD == "auto", **STRIPPED)


class BuildExtensions(build_ext):
    """Compiles on all processors, says what, and what failed in one line where the build goes on without it; notes what was compiled."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or CPUS

    def run(self):
        super().run()
        if self.extensions:
            root = Path() if self.inplace else Path(self.build_lib)
            (root / "gmproxy" / compiled.SOURCES.name).write_text(json.dumps(compiled.digests(), indent=1) + "\n")

    def build_extensions(self):
        self._numbers = itertools.count(1)
        self._total = len([extension for extension in self.extensions if not self._is_current(extension)])
        super().build_extensions()

    def _is_current(self, extension):
        """True if build_ext will skip it."""
        path = Path(self.get_ext_fullpath(extension.name))
        sources = extension.sources + extension.depends
        return not self.force and path.exists() and path.stat().st_mtime >= max(os.path.getmtime(source) for source in sources)

    def build_extension(self, extension):
        if not self._is_current(extension):
            print(f"gmproxy: compiling {extension.name} ({next(self._numbers)} of {self._total})", flush=True)
        try:
            super().build_extension(extension)
        except Exception as error:
            if BUILD == "require":
                raise
            print(f"gmproxy: {extension.name} not compiled: {error}", file=sys.stderr)


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExtensions}, **LICENSE)
