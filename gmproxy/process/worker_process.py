"""A worker among several, in a process of its own. It hears from the master over a channel, and asks the master what concerns all."""

import contextlib
import itertools
import logging
import signal

import gevent
from gevent.lock import BoundedSemaphore

from gmproxy import internal_errors
from gmproxy.config import configuration
from gmproxy.errors import GmproxyError
from gmproxy.monitoring import logging_setup
from gmproxy.process.worker import Worker, every
from gmproxy.system import bootstrap, control_socket

#: Seconds between two looks whether a burst in the log is over.
LOOK_EVERY = 1.0

#: A question to all workers that is not answered after so many seconds is answered by this one alone.
ANSWER_TIMEOUT = 1.5

log = logging.getLogger("gmproxy")


class WorkerProcess:
    """`channel`, a control.Channel to the master, was made before gevent: it becomes ours in another shape."""

    def __init__(self, channel, share, set_up_logs):
        self._channel = control_socket.Channel(gevent.socket.socket(fileno=channel.sock.detach()), takes_sockets=True)
        self._sending = BoundedSemaphore()  # one message after the other
        self._worker = Worker(share, set_up_logs)
        self._asked = {}  # number of a question -> (whom to tell, its timer)
        self._numbers = itertools.count(1)
        self._loop = gevent.get_hub().loop
        share.ask = self.ask

    def run(self, configs, places, listening):
        """Serve until the master says that it is enough, or is gone."""
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self._worker.end)
        if bootstrap.must_end():
            self._worker.end()
        self._worker.serve(configs, places, listening)
        gevent.spawn(self._hear)
        gevent.spawn(every, LOOK_EVERY, logging_setup.sum_up)
        self._worker.run(lambda: self._send({"ready": True}))

    def _send(self, message):
        with self._sending, contextlib.suppress(OSError):  # a master that is gone is seen by `_hear`
            self._channel.send(message)

    def _hear(self):
        try:
            while True:
                for message, sockets in self._channel.receive():
                    internal_errors.guarded("member.take", self._take)(message, sockets)
        except (EOFError, OSError):
            log.error("master gone, ending")
        except Exception:  # what comes next cannot be understood either: the master starts another worker
            internal_errors.record("member.hear")
        finally:
            self._worker.end()

    def _take(self, message, sockets):
        if "answer" in message:
            self._loop.run_callback(internal_errors.guarded("member.answered", self._answered), message["answer"], message["told"])
            return
        try:
            answer = self._obey(message["command"], message["arguments"], sockets)
        except (LookupError, GmproxyError) as error:
            answer = {"error": str(error)}
        except Exception as error:
            internal_errors.record("member.command", f"command={message['command']}")
            answer = {"error": repr(error)}
        self._send({"answer": message["ask"], "told": answer})

    def _obey(self, command, arguments, sockets):
        if command == "serve":
            facts = arguments[0]
            board = self._worker.share.board
            board.slots, board.places = facts["slots"], facts["servers"]
            configs = [configuration.from_plain(plain) for plain in facts["configs"]]
            self._worker.set_up_logs(configs[0])
            self._worker.serve(configs, facts["places"], dict(zip(facts["new"], sockets)))
            return {}
        if command == "end":
            self._worker.end(after_next_reply=arguments[0])
            return {}
        return self._worker.command(command, arguments)

    # -- questions to all workers

    def ask(self, command, arguments, then):
        """`then` is called from the loop, with the joined answer of all workers, or None if it takes too long."""
        number = next(self._numbers)
        timer = self._loop.timer(ANSWER_TIMEOUT)
        self._asked[number] = then, timer
        timer.start(internal_errors.guarded("member.answered", self._answered), number, None)
        self._send({"ask": number, "command": command, "arguments": arguments})

    def _answered(self, number, told):
        then, timer = self._asked.pop(number, (None, None))
        if then is not None:
            timer.close()
            then(None if told is not None and "error" in told else told)
