"""A single process: a worker that looks after itself. All that a master does for several is done here in greenlets."""

import contextlib
import os

import gevent
from gevent.os import make_nonblocking, nb_read
from gevent.server import StreamServer

from gmproxy import control, notify
from gmproxy.errors import GmproxyError
from gmproxy.steward import LOOK_EVERY, SIGNALS, UPGRADE_TIMEOUT
from gmproxy.worker import Worker

class Solo:
    """The crew of a `steward` whose only worker is in this process."""

    def __init__(self, steward, share, set_up_logs):
        self.steward = steward
        self._worker = Worker(share, set_up_logs)
        self._greenlets = []
        self._operators = None
        steward.crew = self

    def run(self, ready):
        """Serve until the end; `ready` is called once clients are accepted."""
        steward = self.steward
        self.serve(steward.configs, steward.places.sockets)
        for number in SIGNALS:
            gevent.signal_handler(number, steward.signal, number)
        self._greenlets.append(gevent.spawn(self._look))
        if steward.places.control is not None:
            self._operators = StreamServer(gevent.socket.socket(fileno=os.dup(steward.places.control.fileno())), self._hear)
            self._operators.start()
        if steward.notifier.watchdog:
            self._greenlets.append(gevent.spawn(self._keep_watchdog_quiet, steward.notifier.watchdog / 2))

        def serving():
            steward.ready()
            ready()

        self._worker.run(serving)
        gevent.killall(self._greenlets)

    def _look(self):
        while True:
            gevent.sleep(LOOK_EVERY)
            self.steward.look()

    def _keep_watchdog_quiet(self, interval):
        while True:
            self.steward.notifier.tell(notify.WATCHDOG)
            gevent.sleep(interval)

    def _hear(self, sock, address):
        """One operator at the control socket."""
        channel = control.Channel(sock, control.MAX_QUESTION)

        def reply(answer):
            with contextlib.suppress(OSError):  # who did not wait for the answer
                channel.send(answer)

        try:
            while True:
                for message, _ in channel.receive():
                    self.steward.command(*control.question(message), reply)
        except ValueError as error:
            reply({"error": str(error)})
        except (EOFError, OSError):
            pass

    # -- what the steward has done

    def serve(self, configs, new, then=lambda: None):
        own = {place: sock.dup() for place, sock in new.items()}  # the worker closes its own, the steward keeps what it hands over
        self._worker.serve(configs, self.steward.places.of_all(configs), own)
        then()

    def ask(self, command, arguments, then):
        try:
            then([self._worker.command(command, arguments)])
        except (LookupError, GmproxyError) as error:
            then([{"error": str(error)}])

    def reopen_logs(self, config):
        self._worker.set_up_logs(config)

    def end(self, softly):
        if self._operators is not None:
            self._operators.close()
        self._worker.end(softly)

    @staticmethod
    def after(seconds, what):
        gevent.spawn_later(seconds, what)

    def pids(self):
        return [os.getpid()]

    def wait_for(self, descriptor, pid, then):
        gevent.spawn(self._wait_for, descriptor, pid, then)

    @staticmethod
    def _wait_for(descriptor, pid, then):
        make_nonblocking(descriptor)
        said = None
        try:
            with gevent.Timeout(UPGRADE_TIMEOUT, False):  # one that is not ours passes
                said = b"".join(iter(lambda: nb_read(descriptor, 4096), b"")).decode()
        finally:
            os.close(descriptor)
        then(said)
        while said != "ready" and os.waitpid(pid, os.WNOHANG) == (0, 0):
            gevent.sleep(LOOK_EVERY)
