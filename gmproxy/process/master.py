"""Several workers: forks them, watches over them, and speaks for them. Plain Python: gevent begins in the workers, after the fork.

One loop over the signals (a pipe into which Python writes them), the channels to the workers, the control socket and those who use it.
Nothing else in here waits.
"""

import contextlib
import functools
import itertools
import logging
import os
import signal
import socket
import time

from gmproxy import internal_errors
from gmproxy.config.configuration import as_plain
from gmproxy.errors import GmproxyError, StartError
from gmproxy.internal_errors import Attempts
from gmproxy.monitoring import logging_setup
from gmproxy.monitoring.control_commands import joined
from gmproxy.monitoring.events import RECENT
from gmproxy.process.control_server import Operators
from gmproxy.process.counter_totals import CounterTotals
from gmproxy.process.peer import CLOSED, Peer
from gmproxy.process.shared_memory import WorkerContext
from gmproxy.process.supervisor import LOOK_EVERY, SIGNALS, UPGRADE_TIMEOUT
from gmproxy.system import bootstrap, control_socket, systemd
from gmproxy.system.select_loop import Loop

#: A worker that died is replaced after this time; each time it dies again within STEADY seconds, after twice the time, up to the longest.
FIRST_DELAY, LONGEST_DELAY = 0.1, 30.0
STEADY = 10.0

#: If no worker serves and one has failed so many times in a row to begin, the service is given up.
ATTEMPTS = 5

#: How long a question to all workers may take; a worker that hangs is left out of the answer.
ANSWER_TIMEOUT = 1.0

#: A worker that should have ended, and has had all of its grace, is killed after so many seconds more.
KILL_AFTER = 2.0

#: Bytes that may wait to be sent to a worker, and seconds in which it may take nothing of them: beyond, it hangs and is replaced.
MAX_UNSENT = 16 * 1024 * 1024
PATIENCE = 10.0

#: Should the loop itself fail, seconds until it goes on: what failed may be there still.
TURN_PAUSE = 0.1

#: What is different in a worker: these are for the master alone.
FOR_MASTER = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

log = logging.getLogger("gmproxy")


class Master:
    """The crew of a `steward`: `count` workers."""

    def __init__(self, steward, count, board, set_up_logs):
        self.steward = steward
        self._count = count
        self._board = board
        self._set_up_logs = set_up_logs  # set_up_logs(config, worker="")
        self._started_at = time.monotonic()
        self._loop = Loop()
        self._children = {}        # pid -> Child
        self._failed = {}          # number -> how often in a row it has not begun
        self._questions = {}       # number -> Question
        self._ledger = CounterTotals()
        self._numbers = itertools.count(1)
        self._everybody_was_ready = False
        self._put_off = []         # signals that came before
        self._ready = None
        self._operators = None
        self._wakeup = -1
        self._ending = False
        self._trouble = None
        steward.crew = self

    def run(self, ready):
        """Serve until the end; `ready` is called once all workers accept clients. Raises StartError if there is none that can."""
        self._ready = ready
        self._board.assign([config.name for config in self.steward.configs])
        self._board.enroll(self.steward.configs)
        self._catch_signals()
        try:
            for number in range(0 if self._ending else self._count):
                self._start(number, FIRST_DELAY)
        except OSError as error:
            self._give_up(f"a worker cannot be started: {error.strerror}")
        if self.steward.places.control is not None:
            self._operators = Operators(self._loop, self.steward.places.control, self.steward.command)
        self._loop.every(LOOK_EVERY, self.steward.look)
        if self.steward.notifier.watchdog:
            self._loop.every(self.steward.notifier.watchdog / 2, self._keep_watchdog_quiet)
        try:
            while not self._ending or self._children:
                try:
                    self._loop.turn()
                except Exception:
                    internal_errors.record("master.turn")
                    time.sleep(TURN_PAUSE)
        finally:
            for child in self._children.values():
                child.kill()
        if self._trouble:
            raise StartError(self._trouble)

    # -- signals

    def _catch_signals(self):
        """A signal is a byte in a pipe; what is to be done, is done in the loop. What was kept until now is done as soon as we serve."""
        self._wakeup, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (*SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._loop.watch(self._wakeup, self._hear_signals)
        for number in bootstrap.kept_signals():
            self._follow(number)

    def _hear_signals(self):
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self._wakeup, 4096):
                internal_errors.guarded("master.signal", self._follow)(number)

    def _follow(self, number):
        try:
            if number == signal.SIGCHLD:
                self._reap()
            elif number in bootstrap.END_SIGNALS or number in SIGNALS and self._everybody_was_ready:
                self.steward.signal(number)
            elif number in SIGNALS and number not in self._put_off:
                self._put_off.append(number)
        except Exception:
            internal_errors.record("master.signal")
            if number in bootstrap.END_SIGNALS:  # it does end, whatever else fails
                self.steward.signal(number)

    # -- workers

    def _start(self, number, delay):
        """Fork the worker `number`. Should it die soon, the next try comes after `delay`. Raises OSError."""
        ours, theirs = socket.socketpair()  # OSError: no descriptor is free
        caught = {*SIGNALS, signal.SIGCHLD}
        signal.pthread_sigmask(signal.SIG_BLOCK, caught)  # none may come in the child before it has its own handlers
        try:
            pid = os.fork()
            if not pid:
                self._be_worker(number, ours, theirs, caught)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, caught)
            theirs.close()
        child = Child(pid, number, delay)
        try:
            child.peer = Peer(self._loop, ours, functools.partial(self._hear_worker, child), functools.partial(self._lost, child),
                              max_unsent=MAX_UNSENT, patience=PATIENCE)
        except Exception:
            child.kill()  # nobody would ever hear of it
            ours.close()
            raise
        self._children[pid] = child

    def _be_worker(self, number, ours, theirs, caught):
        """In the child: serve, and never return."""
        status = 1
        channel = control_socket.Channel(theirs, takes_sockets=True)
        try:
            ours.close()
            self._forget_the_master()
            RECENT.clear()
            logging_setup.forget_dropped()
            internal_errors.forget()
            bootstrap.kept_signals()
            bootstrap.keep_signals()  # until gevent's handlers are there
            for signal_number in FOR_MASTER:
                signal.signal(signal_number, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, caught)
            status = self._serve(number, channel)
        except GmproxyError as error:
            with contextlib.suppress(OSError):
                channel.send({"failed": str(error)})
        except BaseException as error:
            internal_errors.record("master.worker", f"worker={number + 1}")
            with contextlib.suppress(OSError):
                channel.send({"failed": repr(error)})
        finally:
            os._exit(status)

    def _forget_the_master(self):
        """What it holds open is not for us; above all not the channels, by whose end the others see that it is gone."""
        signal.set_wakeup_fd(-1)
        for child in self._children.values():
            child.peer.abandon()
        if self._operators is not None:
            self._operators.abandon()
            self.steward.places.control.close()
        for source in self._loop.sources():
            if isinstance(source, int):
                os.close(source)
        self._loop.close()
        self.steward.waiting.leave_it()

    def _serve(self, number, channel):
        set_up_logs = functools.partial(self._set_up_logs, worker=str(number + 1))
        set_up_logs(self.steward.configs[0])
        try:
            from gmproxy.process.worker_process import (
                WorkerProcess,  # only here: gevent must not begin before the fork
            )
        except ImportError as error:
            raise StartError(f"user {os.getuid()} cannot load the program: {error}") from None
        share = WorkerContext(number, self._count, self._started_at, self._board)
        places = self.steward.places
        WorkerProcess(channel, share, set_up_logs).run(self.steward.configs, places.of_all(self.steward.configs), dict(places.sockets))
        return 0

    def _hear_worker(self, child, message):
        """Called from the loop. A message on which we fail is lost; the worker goes on, unless it was one of those of its start."""
        try:
            self._take(child, message)
        except Exception:
            internal_errors.record("master.hear_worker")
            if not child.ready:
                child.kill()  # the next one will say it again

    def _take(self, child, message):
        if "ready" in message:
            self._is_ready(child)
        elif "failed" in message:
            child.failure = message["failed"]
        elif "answer" in message:
            self._answered(child, message["answer"], message["told"])
        else:
            self.ask(message["command"], message["arguments"], functools.partial(self._tell, child, message))

    def _tell(self, child, message, answers):
        self._send(child, {"answer": message["ask"], "told": joined(message["command"], answers)})

    @staticmethod
    def _send(child, message, given=()):
        child.peer.send(message, given)

    @staticmethod
    def _lost(child, reason):
        """Its channel has ended, as its process has or will in a moment; or else it hangs, or says what nobody understands: it is replaced."""
        if reason != CLOSED:
            log.error("worker hangs worker=%d pid=%d reason='%s'", child.number + 1, child.pid, reason)
        child.kill()

    def _is_ready(self, child):
        child.ready = True
        self._failed.pop(child.number, None)
        for server in self.steward.ejected:
            self._send(child, {"ask": 0, "command": "eject", "arguments": [server]})
        if not self._everybody_was_ready and sum(one.ready for one in self._children.values()) == self._count:
            self._everybody_was_ready = True
            try:
                self.steward.ready(self._ready)
            except Exception as error:
                if not isinstance(error, GmproxyError):
                    internal_errors.record("master.ready")
                self._give_up(str(error))
                return
            while self._put_off:
                internal_errors.guarded("master.signal", self._follow)(self._put_off.pop(0))

    def _reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            child = self._children.pop(pid, None)
            if child is not None:  # else it is a successor that could not begin
                try:
                    self._bury(child, os.waitstatus_to_exitcode(status))
                except Exception:
                    internal_errors.record("master.bury")
                    internal_errors.guarded("master.bury", child.peer.close)()
                    self._start_later(child)

    def _bury(self, child, status):
        child.has_ended = True
        internal_errors.guarded("master.last_words", child.peer.read_rest)()
        attempts = Attempts("master.bury")
        attempts.make(child.peer.close)
        attempts.make(self._board.wipe, child.number)
        attempts.make(self._ledger.died, child.pid)
        for question in list(self._questions.values()):
            attempts.make(self._count_out, question, child)
        if self._ending:
            return
        reason = child.failure or (f"signal {-status}" if status < 0 else f"status {status}")
        if not child.ready:
            self._failed[child.number] = self._failed.get(child.number, 0) + 1
            nobody = not any(one.ready for one in self._children.values())
            if not self._everybody_was_ready or (nobody and self._failed[child.number] >= ATTEMPTS):
                self._give_up(f"a worker cannot start: {reason}" if child.failure is None else child.failure)
                return
        log.error("worker died worker=%d pid=%d reason=%s again_in=%.1fs", child.number + 1, child.pid, reason, _delay_after(child))
        self._start_later(child)

    def _start_later(self, child):
        """Another worker in the place of `child`, which has ended."""
        if not self._ending:
            delay = _delay_after(child)
            self._loop.after(delay, functools.partial(self._start_again, child.number, min(delay * 2, LONGEST_DELAY)))

    def _start_again(self, number, delay):
        try:
            if not self._ending:
                self._start(number, delay)
        except Exception as error:
            if not isinstance(error, OSError):
                internal_errors.record("master.start")
            log.error("worker not started worker=%d reason='%s' again_in=%.1fs", number + 1, error, delay)
            self._loop.after(delay, functools.partial(self._start_again, number, min(delay * 2, LONGEST_DELAY)))

    def _give_up(self, why):
        self._trouble = why
        self.steward.end()

    # -- questions to all workers

    def ask(self, command, arguments, then, given=(), beginners=False):
        """Ask every worker that serves, and those that have not begun yet if `beginners`. `then` gets the list of their answers,
        without those that do not come in time; `given` are sockets that go with the question."""
        asked = [child for child in self._children.values() if child.ready or beginners]
        question = PendingReply(next(self._numbers), command, arguments, {child.pid for child in asked}, then)
        if command == "reset":
            self._ledger.clear()
        self._questions[question.number] = question
        question.timer = self._loop.after(ANSWER_TIMEOUT, functools.partial(self._close_question, question))
        for child in asked:
            self._send(child, {"ask": question.number, "command": command, "arguments": arguments}, given)
        if not asked:
            self._close_question(question)

    def _answered(self, child, number, told):
        question = self._questions.get(number)
        if question is not None:
            question.answers[child.pid] = told
            self._ledger.heard(question.command, question.arguments, child.pid, told)
            self._count_out(question, child)

    def _count_out(self, question, child):
        question.waits_for.discard(child.pid)
        if not question.waits_for:
            self._close_question(question)

    def _close_question(self, question):
        if self._questions.pop(question.number, None) is not None:
            self._loop.cancel(question.timer)
            self._finish(question)

    def _finish(self, question):
        """A fault in what becomes of the answers is not that of the worker who answered last."""
        try:
            question.then(self._ledger.completed(question.command, question.arguments, question.answers))
        except Exception:
            internal_errors.record("master.answers")

    def _keep_watchdog_quiet(self):
        """systemd hears from us as long as all workers that serve can be heard."""
        asked = sum(child.ready for child in self._children.values())

        def heard(answers):
            if asked and len(answers) >= asked:
                self.steward.notifier.tell(systemd.WATCHDOG)

        self.ask("ping", [], heard)

    # -- what the steward has done

    def serve(self, configs, places, new, then):
        self._board.assign([config.name for config in configs])
        self._board.enroll(configs)
        facts = {
            "configs": [as_plain(config) for config in configs], "places": places,
            "new": list(new), "slots": self._board.slots, "servers": self._board.places,
        }
        self.ask("serve", [facts], functools.partial(self._served, then), list(new.values()), beginners=True)

    @staticmethod
    def _served(then, answers):
        try:
            for answer in answers:
                if "error" in answer:
                    log.error("worker did not reload reason=%s", answer["error"])
        finally:  # without that the reload would be under way for ever
            then()

    def reopen_logs(self, config):
        self._set_up_logs(config)
        self.ask("reopen", [], self._reopened, beginners=True)

    @staticmethod
    def _reopened(answers):
        for answer in answers:
            if "error" in answer:
                log.error("log not reopened reason=%s", answer["error"])

    def end(self, after_next_reply):
        self._ending = True
        if self._operators is not None:
            self._operators.stop()
        for child in self._children.values():
            if after_next_reply and child.ready:
                self._send(child, {"ask": 0, "command": "end", "arguments": [True]})
            else:
                child.signal(signal.SIGTERM)
        grace = self.steward.configs[0].grace
        self._loop.after((2 * grace if after_next_reply else grace) + KILL_AFTER, self._kill_all)

    def _kill_all(self):
        for child in self._children.values():
            log.error("worker does not end worker=%d pid=%d", child.number + 1, child.pid)
            child.kill()

    def after(self, seconds, what):
        self._loop.after(seconds, what)

    def workers(self):
        return self._count

    def pids(self):
        return [child.pid for child in sorted(self._children.values(), key=lambda child: child.number)]

    def wait_for(self, descriptor, pid, then):
        heard = []
        os.set_blocking(descriptor, False)
        timer = self._loop.after(UPGRADE_TIMEOUT, lambda: finish(None))

        def finish(said):
            self._loop.forget(descriptor)
            os.close(descriptor)
            self._loop.cancel(timer)
            then(said)

        def read():
            chunk = os.read(descriptor, 4096)
            heard.append(chunk)
            if not chunk:
                finish(b"".join(heard).decode(errors="replace"))

        self._loop.watch(descriptor, read, lambda: finish(""))


def _delay_after(child):
    """Seconds until another worker is started for this one."""
    return FIRST_DELAY if time.monotonic() - child.started_at >= STEADY else child.delay


class Child:
    """A worker as its master sees it. `failure`: why it could not begin; `delay`: until the next try, should it die soon."""

    def __init__(self, pid, number, delay):
        self.pid = pid
        self.number = number
        self.peer = None
        self.delay = delay
        self.ready = False
        self.has_ended = False  # its number may be that of another process by now
        self.failure = None
        self.started_at = time.monotonic()

    def signal(self, number):
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)


class PendingReply:
    """One question to all workers, of which `waits_for` have not answered."""

    def __init__(self, number, command, arguments, waits_for, then):
        self.number = number
        self.command = command
        self.arguments = arguments
        self.waits_for = waits_for
        self.then = then
        self.answers = {}  # pid -> answer
        self.timer = None
