"""gmproxy --demo: a proxy for two memcached servers and a backup on free ports, and commands to try."""

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence

from gmproxy.compiled import BUILD
from gmproxy.config.configuration import Config
from gmproxy.errors import StartError
from gmproxy.monitoring import logging_setup
from gmproxy.placement.server_spec import Server
from gmproxy.process.worker_context import WorkerContext
from gmproxy.system import bootstrap, sockets

HOST = "127.0.0.1"
ADMIN_PORT = 8211
MEMORY_MB = 64
#: SIGHUP too: the demo ends when its terminal is closed.
END_SIGNALS = (*bootstrap.END_SIGNALS, signal.SIGHUP)

#: Seconds for a memcached to start, and to end after SIGTERM.
START_TIMEOUT = 5
STOP_TIMEOUT = 3

BANNER = """
  gmproxy demo: a proxy for two memcached servers and a backup

    proxy     {proxy}
    status    http://{admin}/ (also /metrics, /healthz, /report.json)
    servers   {servers}
    backup    {backup}
    build     {build}

  In another terminal{netcat}:

    printf 'set key1 0 0 5\\r\\nhello\\r\\nget key1\\r\\nquit\\r\\n' | nc {host} {port}
    printf 'stats\\r\\nquit\\r\\n' | nc {host} {port}

  Stop a server; its keys are then read from the backup:   kill {pid}
  Stop the demo: Ctrl-C
"""

NO_NETCAT = " (nc is not installed; on Debian: apt install netcat-openbsd)"


def run(config: Config, program: str) -> None:
    """Serve until Ctrl-C, then stop the memcached servers. Raises StartError."""
    memcached = shutil.which("memcached")
    if memcached is None:
        raise StartError("the demo needs memcached, which is not in PATH; on Debian: apt install memcached")
    bound = _bind(config, program)
    admin = _bind_admin(config)
    children: list[subprocess.Popen[bytes]] = []
    try:
        servers = [_start_memcached(memcached, children) for _ in range(3)]
        config = dataclasses.replace(config, server=servers[:2], backup=servers[2:], daemon=False, admin=sockets.address_of(admin))
        logging_setup.set_up(config, False)
        import gevent

        from gmproxy.process.worker import Worker

        host, port = bound.getsockname()
        address = sockets.address_of(bound)

        def print_banner() -> None:
            print(
                BANNER.format(
                    proxy=f"{host}:{port}",
                    admin=config.admin,
                    servers=f"{servers[0].label}, {servers[1].label}",
                    backup=servers[2].label,
                    build=BUILD,
                    netcat="" if shutil.which("nc") else NO_NETCAT,
                    host=host,
                    port=port,
                    pid=children[0].pid,
                ),
                flush=True,
            )

        worker = Worker(WorkerContext(started_at=time.monotonic()), lambda config: None)
        worker.reconfigure([config], {config.name: [address]}, {address: bound, config.admin: admin})
        for number in END_SIGNALS:
            gevent.signal_handler(number, worker.end)
        if bootstrap.end_is_pending():
            worker.end()
        worker.run(print_banner)
    finally:
        bootstrap.ignore_signals()
        _stop_memcached(children)


def _bind(config: Config, program: str) -> socket.socket:
    """Listen on the port of `config`, or on a free one if that is in use."""
    try:
        return sockets.bind_tcp(HOST, config.port, config.backlog)
    except StartError as error:
        bound = sockets.bind_tcp(HOST, 0, config.backlog)
        print(f"{program}: {error}; the demo listens on port {bound.getsockname()[1]} instead", flush=True)
        return bound


def _bind_admin(config: Config) -> socket.socket:
    """Listen on the address of --admin, by default on ADMIN_PORT; on a free port if that is in use or --admin is a path."""
    try:
        host, _, port = (config.admin or f"{HOST}:{ADMIN_PORT}").rpartition(":")
        return sockets.bind_tcp(host, int(port), config.backlog)
    except (StartError, ValueError):
        return sockets.bind_tcp(HOST, 0, config.backlog)


def _start_memcached(memcached: str, children: list[subprocess.Popen[bytes]]) -> Server:
    """Start a memcached on a free port, add it to `children`, and wait up to START_TIMEOUT until it accepts connections. Raises
    StartError."""
    port = _free_port()
    command = [memcached, "-l", HOST, "-p", str(port), "-U", "0", "-m", str(MEMORY_MB)]
    if os.getuid() == 0:
        command += ["-u", "nobody"]
    # In a session of its own: Ctrl-C is sent to the proxy alone, which then stops its servers.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    children.append(child)
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and child.poll() is None and not bootstrap.end_is_pending():
        try:
            socket.create_connection((HOST, port), 1).close()
            return Server(HOST, port)
        except OSError:
            time.sleep(0.02)
    if bootstrap.end_is_pending():
        raise StartError("terminated by a signal during start-up")
    raise StartError(f"memcached did not start on {HOST}:{port}")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def _stop_memcached(children: Sequence[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
