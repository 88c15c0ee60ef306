"""Supervises the service: acts on signals, commands from the control socket, changed configuration files, and for systemd.

A Supervisor decides what is to be done and has its WorkerGroup do it: in a single process that is the worker in it (single_process.py), else
the workers that the master has forked (master.py). It waits for nothing and needs no gevent.
"""

import contextlib
import functools
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gmproxy import internal_errors
from gmproxy.config import configuration, diff
from gmproxy.config.settings import LOG_LEVELS, TYPED_IN
from gmproxy.errors import GmproxyError, StartError
from gmproxy.monitoring import control_commands, logging_setup
from gmproxy.process.listeners import ListeningSockets
from gmproxy.process.worker_group import UPGRADE_TIMEOUT, Result, WorkerGroup
from gmproxy.system import bootstrap, orphan, systemd
from gmproxy.system.daemon import READY, StartReport, remove_pid_file, write_pid_file
from gmproxy.system.file_watch import FileWatch
from gmproxy.system.pid_keeper import PidKeeper

#: The method that each signal calls.
SIGNALS = {
    signal.SIGTERM: "shut_down",
    signal.SIGINT: "shut_down",
    signal.SIGHUP: "reload",
    signal.SIGUSR1: "reopen_logs",
    signal.SIGUSR2: "upgrade",
}

#: The same for nutcracker, whose SIGHUP is for logrotate. Elsewhere SIGTTIN and SIGTTOU stop a process, as ever.
NUTCRACKER_SIGNALS = SIGNALS | {
    signal.SIGHUP: "reopen_logs",
    signal.SIGTTIN: "log_more",
    signal.SIGTTOU: "log_less",
}

#: Seconds between two calls of Supervisor.poll.
POLL_INTERVAL = 1.0

#: Seconds in which a process that was upgraded names its successor to systemd, after that has reported.
HANDOVER_TIME = 1.0

log = logging.getLogger("gmproxy")

#: The error of a command that comes too late.
SHUTTING_DOWN = "the service is shutting down"

#: What is called with the result of a command.
Then = Callable[[Result], Any]


class Supervisor:
    """
    source              configuration.ConfigSource of the configuration
    configs             the Configs in force
    listening_sockets   of the service
    notifier            notifies systemd
    start_report        for the process that waits until clients are served
    pid_keeper          keeps the pid file if our user may not, or None
    signals             {signal that is acted on: name of the method}
    ejected             servers that an operator has ejected, as they were named: for workers that are started later
    draining            True from the command to the next reload: so do workers that are started meanwhile
    workers             the worker processes; each WorkerGroup sets it

    May be called from the master's loop or a greenlet: nothing here waits, but for the workers' part of a command in a single process.
    """

    def __init__(
        self,
        source: configuration.ConfigSource,
        configs: list[Any],
        listening_sockets: ListeningSockets,
        notifier: systemd.Notifier,
        start_report: StartReport,
    ) -> None:
        self.source = source
        self.configs = configs
        self.listening_sockets = listening_sockets
        self.notifier = notifier
        self.start_report = start_report
        self.signals = NUTCRACKER_SIGNALS if configs[0].compat == "nutcracker" else SIGNALS
        self.pid_keeper = PidKeeper.taken_over(configs[0].pid_file, listening_sockets.pid_keeper)
        self.ejected: set[str] = set()
        self.draining = False
        self.workers: WorkerGroup
        self._watch = FileWatch(source.files)
        self._successor: int | None = None  # its pid
        self._reloading = False
        self._ending = False
        self._warned_of: set[str] = set()  # pools
        self._ready_at = math.inf  # of time.monotonic()

    # -- start and end

    def on_ready(self, announce: Callable[[], Any] = lambda: None) -> None:
        """Clients are served: call `announce`, and report it. Only now the pid file of a predecessor is replaced. Raises StartError.

        A predecessor ends as soon as it gets the report, so that comes last, when nothing else can fail.
        """
        if self.pid_keeper is not None and self.listening_sockets.predecessor is not None:
            self.pid_keeper.write()
        elif self.configs[0].pid_file and self.listening_sockets.predecessor is not None:
            write_pid_file(self.configs[0].pid_file, self.listening_sockets.predecessor)
        self._warn_of_workers_with_backups()
        self.listening_sockets.become_owner()
        if self.listening_sockets.predecessor is None:
            for address in self.listening_sockets.unused(self.configs):
                log.warning("socket of systemd not used address=%s", address)
        else:  # whose configuration may have been another one: nobody would accept clients there
            self._close_unused()
        if self.listening_sockets.predecessor is None:  # else systemd listens to the predecessor, who says that the service is this process
            self.notifier.notify(systemd.READY)
        self._ready_at = time.monotonic()
        internal_errors.guarded("supervisor.announce", announce)()
        self.start_report.report(READY)

    def notify_watchdog(self) -> None:
        """Tell systemd that the service is well. It does not listen to a successor until the predecessor has named it."""
        if self.listening_sockets.predecessor is None or time.monotonic() - self._ready_at >= HANDOVER_TIME:
            self.notifier.notify(systemd.WATCHDOG)

    def _warn_of_workers_with_backups(self) -> None:
        """Once for each pool that gets both, at the start or by a reload."""
        workers = self.workers.count()
        concerned = {config.name or "-" for config in self.configs if config.backup and workers > 1}
        for name in sorted(concerned - self._warned_of):
            log.warning(
                "several workers with backups pool=%s workers=%d: each worker orders the writes of a key separately, so a primary and its "
                'backup can end up with different values (docs/failures.md, "What can still go wrong")',
                name,
                workers,
            )
        self._warned_of = concerned

    def on_signal(self, number: int) -> None:
        """Do what the signal `number` asks for. Raises nothing."""
        try:
            getattr(self, self.signals[signal.Signals(number)])()
        except Exception:
            internal_errors.record("supervisor.signal")
            if number in bootstrap.END_SIGNALS:  # it does end, whatever else fails
                self._ending = True
                self.workers.end_all(after_next_reply=False)

    def shut_down(self, upgraded: bool = False) -> None:
        """Disconnect the clients and end; `upgraded`: a successor serves already."""
        if self._ending:
            return
        self._ending = True
        attempts = internal_errors.Attempts("supervisor.shut_down")
        if not upgraded:
            attempts.make(self.notifier.notify, systemd.STOPPING)
        if self._successor is not None:
            attempts.make(_signal, self._successor, signal.SIGTERM)
        attempts.make(self.listening_sockets.close, upgraded)
        self.workers.end_all(after_next_reply=upgraded)

    def clean_up(self) -> None:
        """The workers have ended, for whatever reason. Never raises: that would change the exit status."""
        try:
            self.listening_sockets.close()
        except Exception:
            internal_errors.record("supervisor.clean_up")
        finally:
            if self.pid_keeper is not None:
                self.pid_keeper.remove()
            if self.configs[0].pid_file:
                remove_pid_file(self.configs[0].pid_file)

    def poll(self) -> None:
        """To be called every POLL_INTERVAL seconds."""
        logging_setup.sum_up()
        if self.configs[0].watch and not self._ending and self._watch.has_changed():
            log.info("configuration changed files=%s", ",".join(self.source.files))
            self.reload()

    # -- reload

    def reload(self, then: Then = lambda result: None) -> None:
        """Read the configuration again and apply it; if it is not valid, keep the one in force. `then` gets the result."""
        if self._ending or self._reloading:
            then({"error": SHUTTING_DOWN if self._ending else "a reload is in progress"})
            return
        self._reloading = True
        files = self.source.files
        try:
            self.notifier.notify_reloading()
            self._watch = FileWatch(files)  # as they are before they are read
            self._apply(self._load(), then)
        except GmproxyError as error:
            log.error("reload refused reason=%s", error)
            self._reloaded({"error": str(error)}, then)
        except Exception as error:
            internal_errors.record("supervisor.reload")
            self._reloaded({"error": repr(error)}, then)
        if self.source.files != files:
            self._watch = FileWatch(self.source.files)

    def _load(self) -> Sequence[Any]:
        """The configuration as its files say now. Logs the warnings that are new. Raises GmproxyError."""
        known = self.source.warnings
        configs = self.source.load()
        for warning in self.source.warnings:
            if warning not in known:
                log.warning("configuration warning: %s", warning)
        return configs

    def _reloaded(self, result: Result, then: Then) -> None:
        """`then` is called once, even if it raises: that is no reason to report the reload again."""
        self._reloading = False
        attempts = internal_errors.Attempts("supervisor.reloaded")
        attempts.make(self.notifier.notify, systemd.READY)
        attempts.make(then, result)

    def _apply(self, configs: Sequence[Any], then: Then) -> None:
        plan = diff.compare(self.configs, configs)
        new = self.listening_sockets.bind_new(plan.configs)
        try:
            self.workers.reopen_logs(plan.configs[0])
            addresses = self.listening_sockets.all_addresses(plan.configs)
        except Exception:
            self.listening_sockets.discard(new)  # no worker would accept clients there
            raise
        self.configs = plan.configs
        self.draining = False
        self._close_unused()
        self.workers.reconfigure(plan.configs, addresses, new, functools.partial(self._on_applied, plan, then))

    def _close_unused(self) -> None:
        internal_errors.guarded("supervisor.close_unused", self.listening_sockets.close_unused)(self.configs)

    def _on_applied(self, plan: Any, then: Then) -> None:
        try:
            for name in plan.refused:
                log.warning("setting needs a restart setting=%s", name)
            changed = sorted({name for names in plan.changed.values() for name in names})
            self._warn_of_workers_with_backups()
            log.info(
                "reloaded pools=%d added=%d removed=%d changed=%s",
                len(plan.configs),
                len(plan.added),
                len(plan.removed),
                ",".join(changed) or "-",
            )
            result = {"added": plan.added, "removed": plan.removed, "changed": plan.changed, "needs_restart": plan.refused}
        except Exception as error:  # else no reload could follow: this one would be under way for ever
            internal_errors.record("supervisor.on_applied")
            result = {"error": repr(error)}
        self._reloaded(result, then)

    def reopen_logs(self) -> Result:
        """Returns the result of the command."""
        try:
            self.workers.reopen_logs(self.configs[0])
        except StartError as error:
            log.error("log not reopened reason=%s", error)
            return {"error": str(error)}
        log.info("log reopened")
        return {}

    def log_more(self) -> None:
        self._change_log_level(-1)

    def log_less(self) -> None:
        self._change_log_level(1)

    def _change_log_level(self, step: int) -> None:
        """By one of LOG_LEVELS, in this process and all workers."""
        number = LOG_LEVELS.index(control_commands.log_level()) + step
        level = LOG_LEVELS[min(max(number, 0), len(LOG_LEVELS) - 1)]
        control_commands.set_log_level([level])
        self.workers.call_workers("log-level", [level], lambda results: None)
        log.warning("log level %s", level)

    # -- upgrade

    def upgrade(self) -> Result:
        """Start the program again and hand over the sockets. When it serves, this process ends; if it cannot, this one stays. Returns the
        result of the command."""
        if self._ending:
            return {"error": SHUTTING_DOWN}
        if self._successor is not None:
            return {"error": "an upgrade is in progress"}
        try:
            reading, writing = os.pipe()
        except OSError as error:
            log.error("upgrade refused reason=%s", error)
            return {"error": str(error)}
        try:
            self._successor = self._start_successor(writing)
        except OSError as error:
            os.close(reading)
            log.error("upgrade refused reason=%s", error)
            return {"error": str(error)}
        finally:
            os.close(writing)
        log.info("upgrading successor=%d", self._successor)
        self.workers.wait_for_successor(reading, self._successor, self._on_successor_report)
        return {"successor": self._successor}

    def _start_successor(self, report_to: int) -> int:
        """Run the command line again in the same directory. Returns the pid. Raises OSError."""
        command = [sys.executable, *sys.orig_argv[1:]]
        start = orphan.spawn_orphan if self.notifier.is_heard else os.posix_spawn  # systemd is to find its own child when it hears MAINPID
        keeper = None if self.pid_keeper is None else (self.pid_keeper.path, self.pid_keeper.descriptor)
        with self.listening_sockets.handing_over(report_to, keeper) as handed_over, _working_directory(TYPED_IN):
            return start(sys.executable, command, {**self.source.environment, **self.notifier.environment(), **handed_over})

    def _on_successor_report(self, report: str | None) -> None:
        pid, self._successor = self._successor, None
        if self._ending or pid is None:
            return
        if report != READY:
            if report is None:
                _signal(pid, signal.SIGKILL)
                report = f"not ready within {UPGRADE_TIMEOUT} s"
            log.error("upgrade refused reason=%s", report.strip() or "the new process exited during start-up")
            return
        log.info("upgraded successor=%d", pid)
        self.notifier.notify(f"MAINPID={pid}", systemd.WATCHDOG)
        self.shut_down(upgraded=True)

    # -- commands from the control socket

    def run_command(self, name: str, arguments: list[str], then: Then) -> None:
        """Run a command of an operator; `then` gets the result, at once or later."""
        if name == "pids":
            then({"pid": os.getpid(), "workers": self.workers.pids()})
        elif name == "reload":
            self.reload(then)
        elif name in ("reopen_logs", "upgrade"):
            then(getattr(self, name)())
        elif name in ("hotkeys", "tail"):
            control_commands.sample(self.workers, name, arguments, then)
        elif name in control_commands.PUBLIC:
            self._prepare(name, arguments)
            self.workers.call_workers(name, arguments, functools.partial(self._on_results, name, arguments, then))
        else:
            then({"error": f"there is no command {name!r}"})

    def _on_results(self, name: str, arguments: list[str], then: Then, results: list[Result]) -> None:
        try:
            result = control_commands.merge_responses(name, results)
        except Exception as error:
            internal_errors.record("supervisor.on_results")
            result = {"error": repr(error)}
        if "error" not in result and name == "eject":
            self.ejected.update(arguments)
        elif "error" not in result and name == "restore":
            self.ejected.difference_update(arguments)
        then(result)

    def _prepare(self, name: str, arguments: list[str]) -> None:
        """What this process does for the command itself, beside the workers."""
        if name == "drain":
            log.warning("draining")
            self.draining = True
            self.listening_sockets.close_to_clients(self.configs[0])
        elif name == "log-level":
            with contextlib.suppress(LookupError):  # the workers report that, too
                control_commands.set_log_level(arguments)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@contextlib.contextmanager
def _working_directory(directory: str) -> Iterator[None]:
    """Unchanged if this process may not enter `directory`."""
    here = os.getcwd()
    with contextlib.suppress(OSError):
        os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(here)
