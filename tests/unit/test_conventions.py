"""How the tests are arranged and how they wait: the rules of tests/README.md that can be checked by reading the source."""

import ast
import functools
from collections import Counter
from pathlib import Path

import gmproxy

PACKAGE = Path(gmproxy.__file__).parent
TESTS = Path(__file__).resolve().parents[1]
UNIT = TESTS / "unit"

#: Unit tests of more than one module.
THEMES = {
    "test_commit_message": "scripts/",
    "test_conventions": "tests/",
    "test_docs": "docs/",
    "test_exactly_once": "one reply for each request, from the session to the connection",
    "test_exception_clauses": "all .pxd files",
    "test_floors": "the imports of all modules",
    "test_generated": "the files that are made from the table of settings",
    "test_method_names": "the names of all methods",
    "test_packaging": "debian/ and init.d/",
    "test_release_check": "scripts/",
    "test_route_boundaries": "the source of all routes",
    "test_routes": "the contract of all routes",
    "test_verified_fills": "the fills of several proxies",
}

#: Modules without a file of unit tests: where they are tested instead. A package represents all its modules.
TESTED_ELSEWHERE = {
    "routing.replica_rules": "unit/routing/test_replica_routes.py",
    "routing.lasting": "unit/routing/test_builder.py unit/routing/test_replica_routes.py",
    "backend.dump_reader": "proxy/test_key_listings.py",
    "backend.server_stats": "proxy/test_stats_of_servers.py",
    "cli": "process",
    "client.client_input": "unit/client/test_session.py unit/client/test_sessions.py proxy/test_hibernation.py",
    "client.context": "unit/client/test_batch.py unit/client/test_sessions.py",
    "client.idle": "unit/client/test_poller.py proxy/test_hibernation.py",
    "client.key_listings": "proxy/test_key_listings.py",
    "client.stat_names": "differential/test_counted_as_memcached.py unit/client/test_stats.py",
    "config.command_line": "unit/config/test_config_configuration.py process/test_command_line.py",
    "config.description": "unit/config/test_config_configuration.py",
    "config.environment": "unit/config/test_config_configuration.py",
    "config.magent": "process/test_magent.py",
    "config.nutcracker": "pools takeover",
    "config.nutcracker_options": "takeover/test_nutcracker_command.py",
    "config.sample": "unit/test_generated.py",
    "config.settings_file": "unit/config/test_config_configuration.py process/test_configuration.py",
    "config.suggestions": "unit/config/test_config_configuration.py process/test_configuration.py",
    "console": "ctl",
    "ctl": "ctl",
    "demo": "process/test_demo.py",
    "monitoring.owed": "ctl/test_owed.py",
    "monitoring.selection": "ctl/test_actions.py ctl/test_owed.py process/test_control_protocol.py",
    "monitoring.listed_keys": "ctl/test_refill.py ctl/test_verify.py",
    "monitoring.refill": "ctl/test_refill.py",
    "monitoring.refill_command": "ctl/test_refill.py",
    "monitoring.replicas": "ctl/test_replica.py",
    "monitoring.prometheus": "admin/test_admin.py admin/test_ecosystem.py",
    "monitoring.twemproxy_stats": "takeover/test_twemproxy.py",
    "placement.builder": "placement/test_placement_options.py placement/test_placement_vectors.py",
    "placement.digests": "unit/placement/test_hashes.py placement",
    "placement.distributions": "placement",
    "placement.hashes_utf16": "unit/placement/test_hashes.py",
    "placement.labels": "placement",
    "placement.murmur3": "unit/placement/test_hashes.py placement",
    "placement.profiles": "placement ctl/test_list_profiles.py",
    "process.control_server": "unit/process/test_peer.py process/test_control_protocol.py process/test_bad_operators.py",
    "process.master": "process/test_workers.py",
    "process.single_process": "process",
    "process.supervisor": "process/test_reloading.py process/test_upgrade.py",
    "process.worker": "unit/test_internal_errors.py process",
    "process.worker_group": "process/test_operations.py",
    "process.worker_process": "process/test_workers.py",
    "process.worker_rpc": "process/test_workers.py process/test_operations.py",
    "protocol.limits": "constants",
    "protocol.binary.layout": "constants",
    "routing.counters": "unit/routing/test_fill.py unit/routing/test_replicated_write.py",
    "routing.failover": "unit/test_routes.py proxy/test_backups.py",
    "routing.step": "unit/test_routes.py",
    "shared.journal_file": "unit/shared/test_journal.py",
    "startup": "process",
    "system.pid_keeper": "process/test_start_as_root.py",
    "system.proctitle": "process/test_start.py",
    "transport.accept": "unit/client/test_listener.py process/test_exhaustion.py",
}

#: Modules without behaviour of their own.
DECLARATIONS = ("__init__", "__main__", "interfaces", "hop")


def modules():
    """All modules with behaviour, as "package.module"."""
    paths = [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py")) if path.stem not in DECLARATIONS]
    return [".".join(path.with_suffix("").parts) for path in paths]


MODULES = modules()
UNIT_TESTS = sorted(UNIT.rglob("test_*.py"))
SOURCES = sorted(TESTS.rglob("*.py"))


def names_of(module):
    """The names that its file of unit tests may have, each with the directory."""
    *packages, name = module.split(".")
    directory = UNIT.joinpath(*packages)
    return {directory / f"test_{name}.py", directory / f"test_{'_'.join([*packages[-1:], name])}.py"}


def elsewhere(module):
    """Where `module`, or a package that contains it, is tested instead. None if it is not in the list."""
    return next((TESTED_ELSEWHERE[name] for name in (module, module.partition(".")[0]) if name in TESTED_ELSEWHERE), None)


def test_each_module_has_a_file_of_unit_tests_or_is_tested_elsewhere():
    """A new module needs a file of unit tests or a line in TESTED_ELSEWHERE, not both."""
    tested = {module: [path.name for path in names_of(module) if path.exists()] for module in MODULES}
    assert [module for module in MODULES if not tested[module] and not elsewhere(module)] == [], "not tested"
    assert [module for module in MODULES if tested[module] and elsewhere(module)] == [], (
        "listed in TESTED_ELSEWHERE although they have unit tests"
    )
    assert [module for module in MODULES if len(tested[module]) > 1] == [], "with two files of unit tests"


def test_what_is_tested_elsewhere_is_there():
    packages = {module.rpartition(".")[0] for module in MODULES}
    for module, places in TESTED_ELSEWHERE.items():
        assert module in MODULES or module in packages, module
        assert all((TESTS / place).exists() for place in places.split() if place != "constants"), (module, places)


def test_each_file_of_unit_tests_is_about_a_module_or_a_theme():
    known = {path for module in MODULES for path in names_of(module)} | {UNIT / f"{theme}.py" for theme in THEMES}
    assert set(UNIT_TESTS) <= known
    assert all((UNIT / f"{theme}.py").exists() for theme in THEMES)


def test_no_two_test_files_have_the_same_name():
    names = Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def where(path, node):
    return f"{path.relative_to(TESTS)}:{node.lineno}: {ast.unparse(node)}"


def test_each_file_says_what_it_is_about():
    silent = [str(path.relative_to(TESTS)) for path in SOURCES if tree_of(path).body and not ast.get_docstring(tree_of(path))]
    assert silent == []


def test_the_readme_names_each_directory_and_each_support_module():
    readme = (TESTS / "README.md").read_text(encoding="utf-8")
    directories = [f"`{path.name}/`" for path in TESTS.iterdir() if path.name not in ("support", "__pycache__") and path.is_dir()]
    supports = [f"`{path.stem}`" for path in (TESTS / "support").glob("*.py") if path.stem != "__init__"]
    assert [name for name in directories + supports if name not in readme] == []


# -- waits

#: Calls that wait without a limit unless they get a timeout.
PROGRAMS = ("subprocess.run", "subprocess.call", "subprocess.check_call", "subprocess.check_output")

#: Methods that have a timeout by default, or do not wait: name of the object, and method.
HAVE_A_TIMEOUT = {
    ("process", "wait"),  # support.servers.Process
    ("server", "wait"),
    ("self", "wait"),
    ("play", "wait"),  # these do not wait
    ("watched", "wait"),
    ("kept", "get"),
    ("service", "join"),  # gmproxy.process.service_memory.ServiceMemory
    ("successor", "join"),
}


def calls(tree):
    """(call, the object on which it is called or "", its name) of all calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            *owner, name = ast.unparse(node.func).rsplit(".", 1)
            yield node, "".join(owner), name


def waits_without_end(node, owner, name):
    """True if this call may wait for ever."""
    options = {keyword.arg for keyword in node.keywords}
    if "timeout" in options or (owner, name) in HAVE_A_TIMEOUT:
        return False
    if f"{owner}.{name}" in PROGRAMS:
        return None not in options
    if name in ("join", "wait", "get") and owner:
        return not node.args and "within" not in options
    if name == "communicate":
        return True
    if name == "create_connection":
        return len(node.args) < 2
    if f"{owner}.{name}" == "select.select":
        return len(node.args) < 4
    return f"{owner}.{name}" == "os.waitpid" and ast.unparse(node.args[1]) == "0"


def test_every_wait_has_a_timeout():
    found = [where(path, node) for path in SOURCES for node, *what in calls(tree_of(path)) if waits_without_end(node, *what)]
    assert found == [], "give it a timeout, from tests/support/timing.py"


SOCKETS = ("socket.socket", "socket.socketpair", "socket.create_server")
SOCKET_NAMES = ("sock", "one", "other", "ours", "theirs", "reading", "listener", "connection", "peer")
SOCKET_WAITS = ("recv", "recv_into", "recvfrom", "recvmsg", "accept", "sendall")
SOCKET_TIMEOUTS = ("settimeout", "setblocking", "Timeout")


def test_sockets_of_unit_tests_have_a_timeout():
    """Files that a test writes and reads itself."""
    found = []
    for path in UNIT_TESTS:
        for function in ast.walk(tree_of(path)):
            if isinstance(function, ast.FunctionDef):
                made = list(calls(function))
                waits = [node for node, owner, name in made if name in SOCKET_WAITS and owner.endswith(SOCKET_NAMES)]
                if any(f"{owner}.{name}" in SOCKETS for _, owner, name in made) and not any(name in SOCKET_TIMEOUTS for _, _, name in made):
                    found += [where(path, node) for node in waits]
    assert found == [], "settimeout(PATIENCE)"


# -- times

CLOCKS = ("monotonic", "perf_counter", "process_time", "thread_time", "getrusage", "cpu_seconds")
DURATIONS = {"watch.seconds", "elapsed", "duration", "took"}

#: The functions that wait.
MAY_COMPARE_TIMES = {Path("support/timing.py")}


def is_time(node):
    return any(
        (isinstance(one, ast.Call) and ast.unparse(one.func).endswith(CLOCKS)) or ast.unparse(one) in DURATIONS for one in ast.walk(node)
    )


def has_upper_bound(node):
    """True if an assertion of `node` requires a time to be less than something."""
    for one in ast.walk(node):
        if isinstance(one, ast.Compare):
            sides = [one.left, *one.comparators]
            for left, operator, right in zip(sides, one.ops, sides[1:]):
                smaller = left if isinstance(operator, (ast.Lt, ast.LtE)) else right if isinstance(operator, (ast.Gt, ast.GtE)) else None
                if smaller is not None and is_time(smaller):
                    return True
    return False


def long_parts(path):
    """The nodes in the tests of `path` that are marked `long`."""
    tree = tree_of(path)
    marks = [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"]
    if any("pytest.mark.long" in ast.unparse(node.value) for node in marks):
        return set(ast.walk(tree))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {part for node in functions if "pytest.mark.long" in "".join(map(ast.unparse, node.decorator_list)) for part in ast.walk(node)}


def test_no_test_of_the_normal_run_fails_because_the_machine_is_busy():
    """An assertion that something took less than a time belongs to a test that is marked `long`, with a reason."""
    found = []
    for path in SOURCES:
        if path.relative_to(TESTS) not in MAY_COMPARE_TIMES:
            assertions = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Assert)]
            found += [where(path, node) for node in assertions if has_upper_bound(node.test) and node not in long_parts(path)]
    assert found == [], "compare what happened instead, see tests/README.md"


# -- the rules themselves


def test_the_rules_find_what_they_are_for():
    endless = "thread.join(); process.communicate(b''); queue.get(); subprocess.run(['true']); select.select([1], [], []); os.waitpid(1, 0)"
    assert [waits_without_end(*call) for call in calls(ast.parse(endless))].count(True) == 6
    bounded = "''.join(x); thread.join(5); subprocess.run(['true'], timeout=5); d.get('x'); process.wait(); os.waitpid(1, os.WNOHANG)"
    assert not any(waits_without_end(*call) for call in calls(ast.parse(bounded)))
    for wrong in ("watch.seconds < 5", "1 < watch.seconds <= 5", "5 > time.monotonic() - start", "ok and elapsed < 2"):
        assert has_upper_bound(ast.parse(wrong)), wrong
    for right in ("watch.seconds > 5", "count < 5", "5 < watch.seconds"):
        assert not has_upper_bound(ast.parse(right)), right
