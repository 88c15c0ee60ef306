"""A single process: a worker that looks after itself. All that a master does for several is done here in greenlets."""

import logging
import os

import gevent
from gevent.lock import BoundedSemaphore
from gevent.os import make_nonblocking, nb_read
from gevent.server import StreamServer

from gmproxy import internal_errors
from gmproxy.errors import GmproxyError
from gmproxy.process.control_server import MAX_OPERATORS, MAX_QUESTIONS, PATIENCE
from gmproxy.process.supervisor import LOOK_EVERY, SIGNALS, UPGRADE_TIMEOUT
from gmproxy.process.worker import Worker, every
from gmproxy.system import bootstrap, control_socket, systemd
from gmproxy.transport.accept import Patient

log = logging.getLogger("gmproxy")



class _Operators(Patient, StreamServer):
    """Operators at the control socket."""


class SingleProcess:
    """The crew of a `steward` whose only worker is in this process."""

    def __init__(self, steward, share, set_up_logs):
        self.steward = steward
        self._worker = Worker(share, set_up_logs)
        self._greenlets = []
        self._listening = None
        self._operators = {}  # Operator -> None, the one heard most recently last
        steward.crew = self

    def run(self, ready):
        """Serve until the end; `ready` is called once clients are accepted."""
        steward = self.steward
        self.serve(steward.configs, steward.places.of_all(steward.configs), steward.places.sockets)
        follow = internal_errors.guarded("solo.signal", steward.signal)
        self._greenlets.append(gevent.spawn(every, LOOK_EVERY, steward.look))
        if steward.places.control is not None:
            self._listening = _Operators(gevent.socket.socket(fileno=os.dup(steward.places.control.fileno())), self._hear)
            self._listening.start()
        if steward.notifier.watchdog:
            self._greenlets.append(gevent.spawn(every, steward.notifier.watchdog / 2, steward.notifier.tell, systemd.WATCHDOG))

        def serving():
            steward.ready(ready)
            for number in SIGNALS:
                gevent.signal_handler(number, follow, number)
            for number in bootstrap.kept_signals():
                follow(number)

        self._worker.run(serving)
        gevent.killall(self._greenlets)

    def _hear(self, sock, address):
        """One operator at the control socket, in a greenlet of its own."""
        if len(self._operators) >= MAX_OPERATORS:
            log.warning("too many operators limit=%d", MAX_OPERATORS)
            idle = next((operator for operator in self._operators if operator.is_idle()), None)
            if idle is None:
                return
            self._operators.pop(idle).kill(block=False)  # nothing may come in between: who is accepted meanwhile counts the others
        operator = Operator(sock)
        self._operators[operator] = gevent.getcurrent()
        try:
            for name, arguments in operator.questions():
                self._operators[operator] = self._operators.pop(operator)
                answer = operator.answer()
                try:
                    self.steward.command(name, arguments, answer)
                except Exception as error:
                    internal_errors.record("solo.operator")
                    answer({"error": repr(error)})
        finally:
            self._operators.pop(operator, None)

    # -- what the steward has done

    def serve(self, configs, places, new, then=lambda: None):
        own = {place: sock.dup() for place, sock in new.items()}  # the worker closes its own, the steward keeps what it hands over
        self._worker.serve(configs, places, own)
        then()

    def ask(self, command, arguments, then):
        try:
            answer = self._worker.command(command, arguments)
        except (LookupError, GmproxyError) as error:
            answer = {"error": str(error)}
        except Exception as error:
            internal_errors.record("solo.ask", f"command={command}")
            answer = {"error": repr(error)}
        then([answer])

    @staticmethod
    def workers():
        return 1

    def reopen_logs(self, config):
        self._worker.set_up_logs(config)

    def end(self, after_next_reply):
        try:
            if self._listening is not None:
                self._listening.close()
        finally:
            self._worker.end(after_next_reply)

    @staticmethod
    def after(seconds, what):
        gevent.spawn_later(seconds, internal_errors.guarded("solo.after", what))

    def pids(self):
        return [os.getpid()]

    def wait_for(self, descriptor, pid, then):
        gevent.spawn(internal_errors.guarded("solo.successor", self._wait_for), descriptor, pid, then)

    @staticmethod
    def _wait_for(descriptor, pid, then):
        make_nonblocking(descriptor)
        said = None
        try:
            with gevent.Timeout(UPGRADE_TIMEOUT, False):  # one that is not ours passes
                said = b"".join(iter(lambda: nb_read(descriptor, 4096), b"")).decode(errors="replace")
        except OSError as error:
            said = str(error)
        finally:
            os.close(descriptor)
        then(said)
        while said != "ready" and os.waitpid(pid, os.WNOHANG) == (0, 0):
            gevent.sleep(LOOK_EVERY)


class Operator:
    """One at the control socket `sock`: its questions come and its answers go in greenlets, of which only those concerned wait."""

    def __init__(self, sock):
        self._channel = control_socket.Channel(sock, control_socket.MAX_QUESTION)
        self._room = BoundedSemaphore(MAX_QUESTIONS)  # for questions under way
        self._sending = BoundedSemaphore()  # one answer after the other
        self._waits_for = 0

    def is_idle(self):
        return not self._waits_for

    def questions(self):
        """Gives (command, arguments) of each, until the end; what is none is answered here, and is the last."""
        try:
            while True:
                for message, _ in self._channel.receive():
                    yield control_socket.question(message)
        except ValueError as error:
            self.answer()({"error": str(error)})
        except (EOFError, OSError):
            pass
        with gevent.Timeout(PATIENCE, False):
            for _ in range(MAX_QUESTIONS):
                self._room.acquire()  # until all are answered: the socket is closed when we return

    def answer(self):
        """What is to be called with the answer to a question, once. Waits while too many are under way."""
        self._room.acquire()
        self._waits_for += 1

        def send(told):
            self._waits_for -= 1
            try:
                with gevent.Timeout(PATIENCE), self._sending:
                    self._channel.send(told)
            except gevent.Timeout:
                log.warning("operator disconnected reason='%s'", "it takes nothing")
                self._channel.close()
            except OSError:  # who did not wait for the answer
                pass
            finally:
                self._room.release()

        return send
