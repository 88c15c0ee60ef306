"""The two builds of the hot modules: a process runs only one of them, and never an extension that is older than its source."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.servers import environment
from support.timing import PROGRAM_TIMEOUT

import gmproxy
from gmproxy import compiled

PACKAGE = Path(gmproxy.__file__).parent


def test_ci_runs_the_build_it_wants():
    """If the compiler failed unnoticed, the slow build would be tested and shipped."""
    expected = os.environ.get("GMPROXY_EXPECT_BUILD")
    if not expected:
        pytest.skip("GMPROXY_EXPECT_BUILD is not set")
    assert compiled.BUILD == expected


@pytest.mark.parametrize("name", compiled.hot_modules())
def test_one_process_runs_one_build(name):
    module = importlib.import_module(name)
    assert module.__name__ == name
    assert module.__file__.endswith(".py") is not compiled.COMPILED


def build_of(package, **variables):
    """The build that `gmproxy` in the directory `package` reports, or the last line of its error."""
    code = "from gmproxy import compiled; import gmproxy.protocol.recv_buffer as m; print(compiled.BUILD, m.__file__.endswith('.py'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment() | {"PYTHONPATH": str(package)} | variables,
        capture_output=True,
        text=True,
        cwd=package,
        timeout=PROGRAM_TIMEOUT,
    )
    return (done.stdout or done.stderr).strip().splitlines()[-1]


@pytest.fixture
def copy(tmp_path):
    """The package in another directory."""
    shutil.copytree(PACKAGE, tmp_path / "gmproxy", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


needs_extensions = pytest.mark.skipif(not all(map(compiled.extension_of, compiled.hot_modules().values())), reason="not compiled")


@pytest.mark.parametrize("value", ["1", "yes"])
def test_pure_when_asked(copy, value):
    assert build_of(copy, GMPROXY_PURE=value) == "pure True"


@needs_extensions
@pytest.mark.parametrize("value", ["0", ""])
def test_compiled_if_all_is_there(copy, value):
    assert build_of(copy, GMPROXY_PURE=value) == "compiled False"


@needs_extensions
def test_pure_if_one_extension_is_missing(copy):
    compiled.extension_of(copy / "gmproxy/routing/router.py").unlink()
    assert build_of(copy, GMPROXY_PURE="") == "pure True"


@needs_extensions
@pytest.mark.parametrize("name", ["routing/router.py", "protocol/recv_buffer.pyx", "protocol/request.pxd"])
def test_an_extension_that_is_older_than_its_source_is_an_error(copy, name):
    path = copy / "gmproxy" / name
    path.write_text(path.read_text() + "\n# changed\n")
    told = build_of(copy, GMPROXY_PURE="")
    assert f"gmproxy/{name}" in told and "make build" in told
    assert build_of(copy, GMPROXY_PURE="1") == "pure True"


# -- scripts/run-demo


@pytest.fixture
def shown(copy):
    """Call it for what scripts/run-demo prints, with a `gmproxy` that only prints which build it would run."""
    commands = copy / "bin"
    commands.mkdir()
    tell = "from gmproxy.compiled import BUILD; print(BUILD)"
    scripts = {"python": f'exec {sys.executable} "$@"', "gmproxy": f"echo \"$1\"; exec {sys.executable} -c '{tell}'"}
    for name, script in scripts.items():
        (commands / name).write_text(f"#!/bin/sh\n{script}\n")
        (commands / name).chmod(0o755)

    def show(**variables):
        kept = {name: value for name, value in environment().items() if name != "GMPROXY_PURE"}
        run_demo = [PACKAGE.parent / "scripts/run-demo", commands]
        done = subprocess.run(
            run_demo,
            env=kept | {"PYTHONPATH": str(copy)} | variables,
            capture_output=True,
            text=True,
            check=True,
            cwd=copy,
            timeout=PROGRAM_TIMEOUT,
        )
        return done.stdout

    return show


needs_scripts = pytest.mark.skipif(not (PACKAGE.parent / "scripts/run-demo").exists(), reason="not in the source tree")


@needs_scripts
@needs_extensions
def test_the_demo_runs_what_is_compiled(shown):
    assert shown().splitlines()[-2:] == ["--demo", "compiled"]
    assert shown(GMPROXY_PURE="1").splitlines()[-2:] == ["--demo", "pure"]


@needs_scripts
def test_the_demo_runs_the_sources_where_nothing_is_compiled(shown, copy):
    (copy / "gmproxy" / compiled.SOURCES.name).unlink(missing_ok=True)
    assert shown().splitlines()[-2:] == ["--demo", "pure"]
    assert "make build" in shown()


@needs_scripts
@needs_extensions
def test_the_demo_runs_the_sources_where_they_are_newer(shown, copy):
    path = copy / "gmproxy/routing/router.py"
    path.write_text(path.read_text() + "\n# changed\n")
    assert shown().splitlines()[-2:] == ["--demo", "pure"]
    assert "changed" in shown() and "make build" in shown()
