"""Supervises the service: acts on signals, control commands and changed configuration files, and reports to systemd.

A Supervisor decides what to do; its WorkerGroup does it: the worker of a single process (single_process.py), or the workers forked by the
master (master.py). It needs no gevent.
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
from gmproxy.config.configuration import Config
from gmproxy.config.settings import LOG_LEVELS
from gmproxy.config.values import TYPED_IN
from gmproxy.errors import GmproxyError, StartError
from gmproxy.monitoring import control_commands, logging_setup, verify_command
from gmproxy.process.listeners import ListeningSockets
from gmproxy.process.switches import Switches
from gmproxy.process.worker_group import UPGRADE_TIMEOUT, Result, WorkerGroup
from gmproxy.system import bootstrap, orphan, systemd
from gmproxy.system.daemon import READY, StartReport, remove_pid_file, write_pid_file
from gmproxy.system.file_watch import FileWatch
from gmproxy.system.pid_keeper import PidKeeper

#: {signal: the Supervisor's method that acts on it}
SIGNALS = {
    signal.SIGTERM: "shut_down",
    signal.SIGINT: "shut_down",
    signal.SIGHUP: "reload",
    signal.SIGUSR1: "reopen_logs",
    signal.SIGUSR2: "upgrade",
}

#: The same for a service that emulates nutcracker, whose SIGHUP is for logrotate. Without it SIGTTIN and SIGTTOU keep their default
#: action: they stop the process.
NUTCRACKER_SIGNALS = SIGNALS | {
    signal.SIGHUP: "reopen_logs",
    signal.SIGTTIN: "log_more",
    signal.SIGTTOU: "log_less",
}

#: Seconds between two calls of Supervisor.poll.
POLL_INTERVAL = 1.0

#: Seconds within which the predecessor sends the successor's pid to systemd, after the successor has reported that it is ready.
HANDOVER_TIME = 1.0

log = logging.getLogger("gmproxy")

#: The error of a command that comes too late.
SHUTTING_DOWN = "the service is shutting down"

#: Gets the result of a command.
Then = Callable[[Result], Any]


class Supervisor:
    """Decides what happens to the service as a whole.

    source              where the configuration is read from
    configs             the Config of each pool, as it is in force; the settings of the process are the same in each
    listening_sockets   of the service
    notifier            notifies systemd
    start_report        sends the result of the start to the process that waits for it
    pid_keeper          keeps the pid file where the service's user may not write it, else None
    signals             {signal: name of the method that acts on it}
    ejected             servers ejected by an operator, as named in the command; workers that start later eject them too
    draining            True from the command `drain` until the next reload; workers that start meanwhile drain too
    switches            what operators have switched off; workers that start later get it, too
    workers             the workers; set by the WorkerGroup itself

    It lives in the master, where the loop calls it, or in a single process, where it is called in greenlets. In the master nothing here
    blocks, except that a reload may look up the host names of new listen addresses. In a single process `run_command` blocks until the
    worker has run the command.
    """

    def __init__(
        self,
        source: configuration.ConfigSource,
        configs: list[Config],
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
        self.switches = Switches(listening_sockets.switched_off)
        self.workers: WorkerGroup
        self._watch = FileWatch(source.files)
        self._successor: int | None = None  # pid
        self._reloading = False
        self._ending = False
        self._ready_at = math.inf  # monotonic seconds

    # -- start-up and shutdown

    def on_ready(self, announce: Callable[[], Any] = lambda: None) -> None:
        """Called once, when all workers accept clients: replace the pid file of a predecessor, call `announce`, and report to systemd and to
        the process that waits for the start report. Raises StartError if the pid file cannot be written.

        The report comes last, when nothing else can fail: a predecessor shuts down as soon as it receives it.
        """
        if self.pid_keeper is not None and self.listening_sockets.predecessor is not None:
            self.pid_keeper.write()
        elif self.configs[0].pid_file and self.listening_sockets.predecessor is not None:
            write_pid_file(self.configs[0].pid_file, self.listening_sockets.predecessor)
        self.listening_sockets.become_owner()
        if self.listening_sockets.predecessor is None:
            for address in self.listening_sockets.unused(self.configs):
                log.warning("socket of systemd not used address=%s", address)
        else:  # the predecessor's configuration may have had other addresses: clients there would never be accepted
            self._close_unused()
        if self.listening_sockets.predecessor is None:  # else the predecessor sends systemd the pid of this process
            self.notifier.notify(systemd.READY)
        self._ready_at = time.monotonic()
        internal_errors.guarded("supervisor.announce", announce)()
        self.start_report.report(READY)

    def notify_watchdog(self) -> None:
        """Send WATCHDOG to systemd. Called while all workers respond. systemd ignores a successor until the predecessor has sent its pid."""
        if self.listening_sockets.predecessor is None or time.monotonic() - self._ready_at >= HANDOVER_TIME:
            self.notifier.notify(systemd.WATCHDOG)

    def on_signal(self, number: int) -> None:
        """Act on the signal `number`, one of `signals`. Raises nothing."""
        try:
            getattr(self, self.signals[signal.Signals(number)])()
        except Exception:
            internal_errors.record("supervisor.signal")
            if number in bootstrap.END_SIGNALS:  # the service ends even if the orderly shutdown fails
                self._ending = True
                self.workers.end_all(after_next_reply=False)

    def shut_down(self, upgraded: bool = False) -> None:
        """Start the shutdown: close the listening sockets and end the workers. `upgraded`: a successor serves already, so clients are
        disconnected after their next reply and the files of sockets stay. A second call does nothing."""
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
        """Remove socket files and the pid file. Called last, after all workers have ended. Never raises: that would change the exit status."""
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
        """Log summaries of repeated lines, and reload if a watched file has changed. Called every POLL_INTERVAL seconds."""
        logging_setup.sum_up()
        if self.configs[0].watch and not self._ending and self._watch.has_changed():
            log.info("configuration changed files=%s", ",".join(self.source.files))
            self.reload()

    # -- reload

    def reload(self, then: Then = lambda result: None) -> None:
        """Read the configuration again and apply it; if it is not valid, the one in force stays. `then` gets
        {"added": [pool], "removed": [pool], "changed": {pool: [setting]}, "needs_restart": [setting]}, or {"error": text}."""
        if self._ending or self._reloading:
            then({"error": SHUTTING_DOWN if self._ending else "a reload is in progress"})
            return
        self._reloading = True
        files = self.source.files
        try:
            self.notifier.notify_reloading()
            self._watch = FileWatch(files)  # before they are read: a change made meanwhile is noticed
            self._apply(self._load(), then)
        except GmproxyError as error:
            log.error("reload refused reason=%s", error)
            self._reloaded({"error": str(error)}, then)
        except Exception as error:
            internal_errors.record("supervisor.reload")
            self._reloaded({"error": repr(error)}, then)
        if self.source.files != files:
            self._watch = FileWatch(self.source.files)

    def _load(self) -> Sequence[Config]:
        """The Configs as the files define them now. Logs the warnings that the last load did not have. Raises ConfigError."""
        logged = self.source.warnings
        configs = self.source.load()
        for warning in self.source.warnings:
            if warning not in logged:
                log.warning("configuration warning: %s", warning)
        return configs

    def _reloaded(self, result: Result, then: Then) -> None:
        """End a reload: notify systemd, and call `then(result)`. An exception of `then` is recorded and does not affect the reload."""
        self._reloading = False
        attempts = internal_errors.Attempts("supervisor.reloaded")
        attempts.make(self.notifier.notify, systemd.READY)
        attempts.make(then, result)

    def _apply(self, configs: Sequence[Config], then: Then) -> None:
        plan = diff.compare(self.configs, configs)
        new = self.listening_sockets.bind_new(plan.configs)
        try:
            self.workers.reopen_logs(plan.configs[0])
            addresses = self.listening_sockets.all_addresses(plan.configs)
        except Exception:
            self.listening_sockets.discard(new)  # no worker accepts clients there
            raise
        self.configs = plan.configs
        self.draining = False
        self._close_unused()
        self.workers.reconfigure(plan.configs, addresses, new, functools.partial(self._on_applied, plan, then))

    def _close_unused(self) -> None:
        internal_errors.guarded("supervisor.close_unused", self.listening_sockets.close_unused)(self.configs)

    def _on_applied(self, plan: diff.ReloadPlan, then: Then) -> None:
        try:
            for name in plan.refused:
                log.warning("setting needs a restart setting=%s", name)
            changed = sorted({name for names in plan.changed.values() for name in names})
            log.info(
                "reloaded pools=%d added=%d removed=%d changed=%s",
                len(plan.configs),
                len(plan.added),
                len(plan.removed),
                ",".join(changed) or "-",
            )
            result = {"added": plan.added, "removed": plan.removed, "changed": plan.changed, "needs_restart": plan.refused}
        except Exception as error:  # the reload must end, or every later one is refused as "in progress"
            internal_errors.record("supervisor.on_applied")
            result = {"error": repr(error)}
        self._reloaded(result, then)

    def reopen_logs(self) -> Result:
        """Open the log files again, in all processes. Returns {} or {"error": text}."""
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
        """Move the log level by `step` places in LOG_LEVELS, in this process and all workers."""
        index = LOG_LEVELS.index(control_commands.log_level()) + step
        level = LOG_LEVELS[min(max(index, 0), len(LOG_LEVELS) - 1)]
        control_commands.set_log_level([level])
        self.workers.call_workers("log-level", [level], lambda results: None)
        log.warning("log level %s", level)

    # -- upgrade

    def upgrade(self) -> Result:
        """Start the program again and pass it the sockets. When the successor is ready, this process shuts down; if it fails, this process
        goes on. Returns {"successor": pid} or {"error": text}."""
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
        """Run the command line again, in the directory in which it was first run. `report_to`: descriptor of a pipe for the start report.
        Returns the pid. Raises OSError."""
        command = [sys.executable, *sys.orig_argv[1:]]
        start = orphan.spawn_orphan if self.notifier.is_active else os.posix_spawn  # systemd wants MAINPID to be a child of its own
        keeper = None if self.pid_keeper is None else (self.pid_keeper.path, self.pid_keeper.descriptor)
        with (
            self.listening_sockets.handing_over(report_to, keeper, self.workers.shared.descriptors(), self.switches.kept()) as handed_over,
            _working_directory(TYPED_IN),
        ):
            return start(sys.executable, command, {**self.source.environment, **self.notifier.environment(), **handed_over})

    def _on_successor_report(self, report: str | None) -> None:
        """`report`: READY, the text of an error, "" if the successor ended without one, None if it did not report within UPGRADE_TIMEOUT."""
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
        """Run a control command; `then` gets the result, at once or later: a dict, with the text "error" if the command failed. An exception
        raised here is an internal error; the caller reports it."""
        if name == "pids":
            then({"pid": os.getpid(), "workers": self.workers.pids()})
        elif name == "reload":
            self.reload(then)
        elif name in ("reopen_logs", "upgrade"):
            then(getattr(self, name)())
        elif name in ("hotkeys", "tail"):
            control_commands.sample(self.workers, name, arguments, then)
        elif name == "verify":
            verify_command.run(self.workers, arguments, then)
        elif name in control_commands.PUBLIC:
            self._prepare(name, arguments)
            self.switches.follow_command(name, arguments, self.configs)
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
        """Do the part of the command that is not the workers'."""
        if name == "drain":
            log.warning("draining")
            self.draining = True
            self.listening_sockets.close_to_clients(self.configs[0])
        elif name == "log-level":
            with contextlib.suppress(LookupError):  # the workers return this error
                control_commands.set_log_level(arguments)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@contextlib.contextmanager
def _working_directory(directory: str) -> Iterator[None]:
    """Change the working directory inside of the `with`; leave it if this process may not enter `directory`."""
    previous = os.getcwd()
    with contextlib.suppress(OSError):
        os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(previous)
