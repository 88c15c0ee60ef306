"""Fixtures of all tests. tests/support is imported as `support`."""

import importlib.util
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))
if importlib.util.find_spec("gmproxy") is None:
    sys.path.insert(0, str(HERE.parent))
pytest.register_assert_rewrite("support")

from support.scripted import ScriptedBackend  # noqa: E402
from support.servers import MEMCACHED, OTHER_MEMCACHED, Memcached, Proxy  # noqa: E402
from support.skips import fail_unless_listed  # noqa: E402


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    report = yield
    fail_unless_listed(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    report = yield
    fail_unless_listed(report)
    return report


@pytest.fixture
def memcached():
    """Call it for a new memcached server. All of them are ended with the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Memcached(*arguments, **options))


@pytest.fixture
def shared_directory():
    """A directory in which memcached may create files as the user nobody, as in /tmp. Other users may not enter `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="gmproxy-") as name:
        os.chmod(name, 0o1777)
        yield Path(name)


@pytest.fixture(params=["this", "another"])
def program(request):
    """The memcached to test with. A test that uses this fixture runs with each."""
    if request.param == "another" and OTHER_MEMCACHED is None:
        pytest.skip("GMPROXY_TEST_MEMCACHED names no other memcached")
    return MEMCACHED if request.param == "this" else OTHER_MEMCACHED


@pytest.fixture
def scripted():
    """Call it with scripts for a new ScriptedBackend. At the end of the test it must have received what its scripts expect."""
    backends = []
    with ExitStack() as stack:

        def start(*scripts, **options):
            backend = stack.enter_context(ScriptedBackend(*scripts, **options))
            backends.append(backend)
            return backend

        yield start
        for backend in backends:
            backend.check()


@pytest.fixture
def proxy():
    """Call it with arguments for a proxy that accepts clients. At the end of the test none may have had an internal error."""
    started = []
    with ExitStack() as stack:

        def start(*arguments, **options):
            process = stack.enter_context(Proxy(*arguments, **options))
            started.append(process)
            return process

        yield start
        for process in started:
            process.check_log()
