"""Real processes: memcached servers and the proxy, each on a free loopback port."""

import io
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from unittest import mock

import gmproxy
from gmproxy import startup
from support import packets
from support.talk import Talk
from support.timing import PATIENCE, PROGRAM_TIMEOUT, eventually

HOST = "127.0.0.1"

#: Ports below the kernel's range for outgoing connections, so that no connection takes the port of a server that is down.
ALL_PORTS = range(12000, 32000)


def ports_of(process: int, processes: int) -> range:
    """The ports of test process number `process` of `processes`. The ranges are disjoint, so that no other test process takes a free port."""
    share = len(ALL_PORTS) // processes
    begin = process % processes * share  # a process that crashed is replaced by one with a further number
    return ALL_PORTS[begin : begin + share]


PORTS = ports_of(
    int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
)

#: The memcached of this system, and a second one for the same tests, for example another version.
MEMCACHED = shutil.which("memcached")
OTHER_MEMCACHED = os.environ.get("GMPROXY_TEST_MEMCACHED")

#: True if coverage.py measures the processes that the tests start; see scripts/coverage.
MEASURED = "COVERAGE_PROCESS_CONFIG" in os.environ

#: {command of gmproxy: command line that runs it}
COMMANDS = {
    "gmproxy": (sys.executable, "-m", "gmproxy"),
    "magent": (sys.executable, "-c", "import sys; from gmproxy.cli import magent; sys.exit(magent())"),
    "nutcracker": (sys.executable, "-c", "import sys; from gmproxy.cli import nutcracker; sys.exit(nutcracker())"),
}


#: The ports of this process in an order of chance, again and again: one that was found free is not found again before it is used.
_NEXT_PORTS = itertools.cycle(random.sample(PORTS, len(PORTS)))


def free_port(host=HOST):
    """A port of the loopback address `host` that no process listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in _NEXT_PORTS:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                probe.listen()
                return port
            except OSError:
                continue


def has_ipv6():
    """True if this host has the address ::1."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            return True
    except OSError:
        return False


def server_options(primaries, backups=(), replicas=()):
    """The options of gmproxy for these servers, which have an `address`. `replicas` has a list of servers for each replica set."""
    options = [word for server in primaries for word in ("-s", server.address)]
    options += [word for server in backups for word in ("-b", server.address)]
    return options + [word for servers in replicas for word in ("--replica", ",".join(server.address for server in servers))]


def environment(**extra):
    """The environment of the tests, in which the gmproxy under test can be imported, with no GMPROXY_ variables but GMPROXY_PURE and `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GMPROXY_") or name == "GMPROXY_PURE"}
    ours = str(Path(gmproxy.__file__).resolve().parents[1])
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (ours, os.environ.get("PYTHONPATH"))))
    return kept | extra


def run(*arguments, program="gmproxy", stdin="", cwd=None, **variables):
    """Run a command of gmproxy to its end. Returns a subprocess.CompletedProcess with text."""
    return subprocess.run(
        [*COMMANDS[program], *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=cwd,
        env=environment(**variables),
    )


def run_here(*arguments, program="gmproxy", **variables):
    """The same as `run`, but in this process, which is faster. Only for actions that end, such as -t."""
    line = [str(argument) for argument in arguments]
    assert {"-t", "--print-config"} & set(line), "it might serve"
    stdout, stderr = io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, environment(**variables), clear=True), redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            status = startup.run_command_line(program, program, line)
        except SystemExit as end:
            status = end.code
    return subprocess.CompletedProcess(line, status, stdout.getvalue(), stderr.getvalue())


class Process:
    """A child process. Use it in a `with`."""

    def __init__(self, command, **options):
        self._command = command
        self._options = options
        self._child = None
        self._launch()

    def _launch(self):
        self._child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, start_new_session=True, **self._options)

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.kill()

    @property
    def pid(self):
        return self._child.pid

    @property
    def is_running(self):
        return self._child.poll() is None

    def signal(self, number):
        self._child.send_signal(number)

    def pause(self):
        """Stop it with SIGSTOP: it keeps its connections, but sends no replies."""
        self.signal(signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)  # waits until it has stopped

    def resume(self):
        self.signal(signal.SIGCONT)

    def stop(self, within=PATIENCE):
        """End it with SIGTERM. Returns its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(within)

    def wait(self, within=PATIENCE):
        return self._child.wait(within)

    def kill(self):
        """End it with SIGKILL, if it is running."""
        if self.is_running:
            self.signal(signal.SIGKILL)
            self.wait()


class Memcached(Process):
    """memcached on its own port; `arguments` are further options. `program` is the path of the program."""

    def __init__(self, *arguments, host=HOST, unix_socket=None, program=None, **options):
        self.host = host
        self.port = free_port(host)
        self.path = unix_socket
        where = ["-s", str(unix_socket), "-a", "666"] if unix_socket else ["-l", host, "-p", str(self.port), "-U", "0"]
        who = ["-u", "nobody"] if os.getuid() == 0 else []
        super().__init__([program or MEMCACHED, *where, *who, *arguments], stderr=subprocess.DEVNULL, **options)
        self._wait_until_it_answers()

    @property
    def address(self):
        """Its address for -s and in error lines."""
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def talk(self):
        return Talk(self.port, self.host, self.path)

    def stats(self):
        with self.talk() as talk:
            return read_stats(talk)

    def restart(self):
        """Kill it and start it again, at the same address, with an empty memory."""
        self.kill()
        self._launch()
        self._wait_until_it_answers()

    def _wait_until_it_answers(self):
        def answers():
            assert self.is_running, f"memcached ended: {self._command}"
            try:
                with self.talk() as talk:
                    return self._greet(talk)
            except OSError:
                return False

        eventually(answers, what="memcached replies")

    def _greet(self, talk):
        return talk.ask(b"version\r\n")


#: The program that creates users for SASL (package sasl2-bin); None if it is not installed.
SASLPASSWD = shutil.which("saslpasswd2", path=os.environ.get("PATH", "") + ":/usr/sbin")


class SaslMemcached(Memcached):
    """memcached -S, which has only the binary protocol, with the user USER and PASSWORD. Its files are in `folder`."""

    USER, PASSWORD = b"one", b"my secret"

    def __init__(self, folder, *arguments, **options):
        users = folder / "sasldb"
        subprocess.run(
            [SASLPASSWD, "-a", "memcached", "-c", "-p", "-f", users, self.USER], input=self.PASSWORD, check=True, timeout=PROGRAM_TIMEOUT
        )
        (folder / "memcached.conf").write_text(f"mech_list: plain\nsasldb_path: {users}\n")
        who = ["-u", "root"] if os.getuid() == 0 else []  # other users cannot read the files of a test
        super().__init__("-S", *who, *arguments, env=os.environ | {"SASL_CONF_PATH": str(folder)}, **options)

    def _greet(self, talk):
        """It replies to a version request without a login."""
        talk.send(packets.packet("version"))
        return packets.read_answer(talk)

    def let_in(self, talk):
        """Log in on the connection `talk`."""
        talk.send(packets.packet("auth", b"PLAIN", b"\0".join((b"", self.USER, self.PASSWORD))))
        assert packets.read_answer(talk).status == 0

    def value_of(self, key):
        """The value that it has for `key`, or None."""
        with self.talk() as talk:
            self.let_in(talk)
            (answer,) = packets.ask(talk, packets.packet("get", key))
            return answer.value if answer.status == 0 else None


class Proxy(Process):
    """The proxy in the foreground.

    `arguments` follow `-l 127.0.0.1 -p PORT`; with a `port` they are the whole command line, and must set that port. With a
    `path`, `talk` connects to that unix socket. `prefix` is a command that runs the proxy with exec, such as `unshare`.
    """

    def __init__(self, *arguments, program="gmproxy", host=HOST, port=None, path=None, variables=None, prefix=(), **options):
        self.host = host
        self.port = port or free_port(host)
        self.path = path
        self._stdout = tempfile.TemporaryFile()
        self._stderr = tempfile.TemporaryFile()
        where = [] if port else ["-l", host, "-p", str(self.port)]
        super().__init__(
            [*prefix, *COMMANDS[program], *where, *map(str, arguments)],
            stdout=self._stdout,
            stderr=self._stderr,
            env=environment(**(variables or {})),
            **options,
        )
        eventually(self._answers, what="the proxy replies to clients")

    def __exit__(self, *failure):
        if MEASURED and self.is_running:
            self._end_and_save()
        super().__exit__(*failure)
        self._stdout.close()
        self._stderr.close()

    def _answers(self):
        """True if the proxy replies. That it accepts a connection proves nothing: the kernel does that before the proxy."""
        assert self.is_running, f"the proxy ended: {self.log()}"
        try:
            with self.talk() as talk:
                return talk.ask(b"version\r\n")
        except (OSError, AssertionError):  # free_port of another process may have listened on the port for a moment
            return False

    def _end_and_save(self):
        """End the process with SIGTERM: a process that is killed saves no coverage data."""
        self.resume()
        with suppress(subprocess.TimeoutExpired):
            self.stop()

    def talk(self):
        return Talk(self.port, self.host, self.path)

    def stats(self):
        with self.talk() as talk:
            return read_stats(talk)

    def log(self):
        """Its stderr so far."""
        return _contents(self._stderr)

    def check_log(self):
        """A traceback in the log fails the test. The log is shown with any failure."""
        log = self.log()
        print(log, file=sys.stderr)
        assert "Traceback" not in log, "an exception that nobody handled"

    def output(self):
        """Its stdout so far."""
        return _contents(self._stdout)

    def descriptors(self):
        """The number of its open file descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def _contents(file):
    return os.pread(file.fileno(), 1 << 24, 0).decode(errors="replace")


def read_stats(talk):
    """The reply to `stats` as a dict; values that consist of digits are int."""
    facts = {}
    for line in talk.ask(b"stats\r\n", b"END\r\n").decode().splitlines()[:-1]:
        _, name, value = line.split(" ", 2)
        facts[name] = int(value) if value.isdigit() else value
    return facts
