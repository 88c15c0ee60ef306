"""Looks after the service as a whole: what signals, the control socket, the configuration files and systemd ask for.

A Steward is told what happened and has its crew do it: in a single process that is the worker in it (solo.py), else the workers that the
master has forked (master.py). It waits for nothing and needs no gevent.
"""

import contextlib
import functools
import logging
import os
import signal
import sys

from gmproxy import internal_errors
from gmproxy.config import diff
from gmproxy.config.settings import TYPED_IN
from gmproxy.errors import GmproxyError, StartError
from gmproxy.monitoring import control_commands, logging_setup
from gmproxy.system import systemd
from gmproxy.system.daemon import remove_pid_file, write_pid_file
from gmproxy.system.file_watch import Watch

#: What each signal asks for: the name of a method.
SIGNALS = {
    signal.SIGTERM: "end", signal.SIGINT: "end", signal.SIGHUP: "reload", signal.SIGUSR1: "reopen_logs", signal.SIGUSR2: "upgrade",
}

#: A successor that does not serve after so many seconds is ended.
UPGRADE_TIMEOUT = 30

#: Seconds between two looks at what only time tells.
LOOK_EVERY = 1.0

log = logging.getLogger("gmproxy")


class Supervisor:
    """
    source       conf.Source of the configuration
    configs      the Configs in force
    places       gmproxy.process.listeners.ListeningSockets, the listening sockets
    notifier     gmproxy.system.systemd.Notifier
    waiting      gmproxy.system.daemon.Waiting, who waits to hear that we serve
    ejected      servers that an operator wants left alone, as they were named: a worker that is started later is told
    crew         who serves. It has
                     serve(configs, places, new, then) places: {name of a pool: its places}, new: {place: listening socket}; then() is called when it is done
                     ask(command, arguments, then)     then(list of answers) is called at once or later
                     reopen_logs(config)               raises StartError
                     end(softly)
                     wait_for(descriptor, pid, then)   then(text) with what comes until its end, or None if that takes too long
                     pids()                            of the workers
                     workers()                         how many there are to be
                     after(seconds, what)              what() is called then
    """

    def __init__(self, source, configs, places, notifier, waiting):
        self.source = source
        self.configs = configs
        self.places = places
        self.notifier = notifier
        self.waiting = waiting
        self.crew = None
        self.ejected = set()
        self._watch = Watch(source.files)
        self._successor = None
        self._reloading = False
        self._ending = False
        self._warned_of = set()  # pools

    # -- the beginning and the end

    def ready(self, announce=lambda: None):
        """Clients are served: `announce` it, and tell who waits for that. Only now the pid file of a predecessor is ours. Raises StartError.

        A predecessor ends as soon as it knows, so that comes last, when nothing else can fail.
        """
        if self.configs[0].pid_file and self.places.predecessor is not None:
            write_pid_file(self.configs[0].pid_file, self.places.predecessor)
        self._warn_of_workers_with_backups()
        self.places.become_owner()
        self.notifier.tell(systemd.READY)
        internal_errors.guarded("steward.announce", announce)()
        self.waiting.tell("ready")

    def _warn_of_workers_with_backups(self):
        """Once for each pool that has come to it, at the start or by a reload."""
        workers = self.crew.workers()
        concerned = {config.name or "-" for config in self.configs if config.backup and workers > 1}
        for name in sorted(concerned - self._warned_of):
            log.warning("several workers with backups pool=%s workers=%d: each worker orders the changes of a key for itself, so a primary and its "
                        "backup may be left with different values (docs/failures.md, \"What can still go wrong\")", name, workers)
        self._warned_of = concerned

    def signal(self, number):
        """Do what the signal asks for. May be called from the master's loop or a greenlet."""
        try:
            getattr(self, SIGNALS[number])()
        except Exception:
            internal_errors.record("steward.signal")
            if SIGNALS[number] == "end":  # it does end, whatever else fails
                self._ending = True
                self.crew.end(False)

    def end(self, after_next_reply=False):
        """Let clients go and end; `after_next_reply`: a successor serves already."""
        if self._ending:
            return
        self._ending = True
        attempts = internal_errors.Attempts("steward.end")
        if not after_next_reply:
            attempts.make(self.notifier.tell, systemd.STOPPING)
        if self._successor is not None:
            attempts.make(_signal, self._successor, signal.SIGTERM)
        attempts.make(self.places.close, after_next_reply)
        self.crew.end(after_next_reply)

    def gone(self):
        """The crew has ended, for whatever reason. Never raises: that would change the exit status."""
        try:
            self.places.close()
        except Exception:
            internal_errors.record("steward.gone")
        finally:
            if self.configs[0].pid_file:
                remove_pid_file(self.configs[0].pid_file)

    def look(self):
        """To be called every LOOK_EVERY seconds."""
        logging_setup.sum_up()
        if self.configs[0].watch and not self._ending and self._watch.changed():
            log.info("configuration changed files=%s", ",".join(self.source.files))
            self.reload()

    # -- other settings

    def reload(self, then=lambda told: None):
        """Read the configuration again and go on under it; if it cannot be used, as before. `then` gets what is to be told, a dict."""
        if self._ending or self._reloading:
            then({"error": "the service ends" if self._ending else "a reload is under way"})
            return
        self._reloading = True
        self.notifier.reloading()
        files = self.source.files
        self._watch = Watch(files)  # as they are before they are read
        try:
            self._follow(self.source.read(), then)
        except GmproxyError as error:
            log.error("reload refused reason=%s", error)
            self._reloaded({"error": str(error)}, then)
        except Exception as error:
            internal_errors.record("steward.reload")
            self._reloaded({"error": repr(error)}, then)
        if self.source.files != files:
            self._watch = Watch(self.source.files)

    def _reloaded(self, told, then):
        self._reloading = False
        try:
            self.notifier.tell(systemd.READY)
        except Exception:
            internal_errors.record("steward.reloaded")
        then(told)

    def _follow(self, configs, then):
        plan = diff.compare(self.configs, configs)
        new = self.places.open(plan.configs)
        try:
            self.crew.reopen_logs(plan.configs[0])
            places = self.places.of_all(plan.configs)
        except Exception:
            self.places.forget(new)  # nobody would accept clients there
            raise
        self.configs = plan.configs
        internal_errors.guarded("steward.close_unused", self.places.close_unused)(plan.configs)
        self.crew.serve(plan.configs, places, new, functools.partial(self._followed, plan, then))

    def _followed(self, plan, then):
        try:
            for name in plan.refused:
                log.warning("setting needs a restart setting=%s", name)
            changed = sorted({name for names in plan.changed.values() for name in names})
            self._warn_of_workers_with_backups()
            log.info("reloaded pools=%d added=%d removed=%d changed=%s", len(plan.configs), len(plan.added), len(plan.removed),
                     ",".join(changed) or "-")
            told = {"added": plan.added, "removed": plan.removed, "changed": plan.changed, "needs_restart": plan.refused}
        except Exception as error:  # else no reload could follow: this one would be under way for ever
            internal_errors.record("steward.followed")
            told = {"error": repr(error)}
        self._reloaded(told, then)

    def reopen_logs(self):
        try:
            self.crew.reopen_logs(self.configs[0])
        except StartError as error:
            log.error("log not reopened reason=%s", error)
            return {"error": str(error)}
        log.info("log reopened")
        return {}

    # -- another program

    def upgrade(self):
        """Start the program anew, with our sockets. When it serves we end; if it cannot, we stay. Returns what is to be told."""
        if self._successor is not None or self._ending:
            return {"error": "an upgrade is under way"}
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
        self.crew.wait_for(reading, self._successor, self._successor_said)
        return {"successor": self._successor}

    def _start_successor(self, report_to):
        """The pid of the program, typed again in the same place."""
        command = [sys.executable, *sys.orig_argv[1:]]
        with self.places.handing_over(report_to) as told, _standing_in(TYPED_IN):
            return os.posix_spawn(sys.executable, command, {**self.source.environment, **self.notifier.environment(), **told})

    def _successor_said(self, said):
        pid, self._successor = self._successor, None
        if self._ending:
            return
        if said != "ready":
            if said is None:
                _signal(pid, signal.SIGKILL)
                said = f"not ready within {UPGRADE_TIMEOUT} s"
            log.error("upgrade refused reason=%s", said.strip() or "the new program died at the start")
            return
        log.info("upgraded successor=%d", pid)
        self.notifier.tell(f"MAINPID={pid}")
        self.end(after_next_reply=True)

    # -- orders and questions

    def command(self, name, arguments, then):
        """What the control socket asks for; `then` gets the answer, a dict, now or later."""
        if name == "pids":
            then({"pid": os.getpid(), "workers": self.crew.pids()})
        elif name == "reload":
            self.reload(then)
        elif name in ("reopen_logs", "upgrade"):
            then(getattr(self, name)())
        elif name in ("hotkeys", "tail"):
            control_commands.sample(self.crew, name, arguments, then)
        elif name in control_commands.PUBLIC:
            self._prepare(name, arguments)
            self.crew.ask(name, arguments, functools.partial(self._answered, name, arguments, then))
        else:
            then({"error": f"there is no command {name!r}"})

    def _answered(self, name, arguments, then, answers):
        try:
            told = control_commands.joined(name, answers)
        except Exception as error:
            internal_errors.record("steward.answer")
            told = {"error": repr(error)}
        if "error" not in told and name == "eject":
            self.ejected.update(arguments)
        elif "error" not in told and name == "restore":
            self.ejected.difference_update(arguments)
        then(told)

    def _prepare(self, name, arguments):
        """What an order means for this process, beside the workers."""
        if name == "drain":
            log.warning("draining")
            self.places.close_to_clients(self.configs[0])
        elif name == "log-level":
            with contextlib.suppress(LookupError):  # the workers say so, too
                control_commands.set_log_level(arguments)


def _signal(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@contextlib.contextmanager
def _standing_in(directory):
    """As far as we may go there."""
    here = os.getcwd()
    with contextlib.suppress(OSError):
        os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(here)
