"""One of several workers, in a process of its own. It receives commands from the master over a channel, and can call all workers
through the master."""

import contextlib
import itertools
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from socket import socket
from typing import Any

import gevent
from gevent.lock import BoundedSemaphore

from gmproxy import internal_errors
from gmproxy.config import configuration
from gmproxy.config.configuration import Config
from gmproxy.errors import GmproxyError
from gmproxy.monitoring import logging_setup
from gmproxy.process.worker import Worker, every
from gmproxy.process.worker_context import WorkerContext
from gmproxy.process.worker_group import Addresses, Result
from gmproxy.system import bootstrap, control_socket
from gmproxy.system.control_socket import Message

#: Seconds between two checks whether a burst of repeated log lines is over.
SUM_UP_INTERVAL = 1.0

#: Seconds after which a call of all workers has failed; the caller then replies with the result of this worker alone. It is longer than the
#: master's own timeout (worker_rpc.CALL_TIMEOUT).
CALL_TIMEOUT = 1.5

log = logging.getLogger("gmproxy")


class WorkerProcess:
    """A worker and its connection to the master. `channel` was made before gevent was imported; its socket is taken over."""

    def __init__(self, channel: control_socket.Channel, context: WorkerContext, set_up_logs: Callable[..., Any]) -> None:
        self._channel = control_socket.Channel(gevent.socket.socket(fileno=channel.sock.detach()), takes_sockets=True)
        self._sending = BoundedSemaphore()  # held while a message is sent: greenlets must not mix theirs
        self._context = context
        self._worker = Worker(context, set_up_logs)
        self._calls: dict[int, tuple[Callable[[Any], Any], Any]] = {}  # number -> (then, timer)
        self._numbers = itertools.count(1)
        self._loop = gevent.get_hub().loop
        context.call_workers = self.call_workers

    def run(self, configs: Sequence[Config], addresses: Addresses, listening: dict[str, socket]) -> None:
        """Serve until the master sends "end" or has died. `listening`: {address: listening socket}, which are taken over. Blocks. Raises
        ConfigError, StartError."""
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self._worker.end)
        if bootstrap.end_is_pending():
            self._worker.end()
        self._worker.reconfigure(configs, addresses, listening)
        gevent.spawn(self._receive_messages)
        gevent.spawn(every, SUM_UP_INTERVAL, logging_setup.sum_up)
        self._worker.run(lambda: self._send({"ready": True}))

    def _send(self, message: Message) -> None:
        """Send `message` to the master. Greenlet only: blocks until the master reads."""
        with self._sending, contextlib.suppress(OSError):  # `_receive_messages` notices that the master has died
            self._channel.send_message(message)

    def _receive_messages(self) -> None:
        try:
            while True:
                for message, passed in self._channel.receive():
                    internal_errors.guarded("worker_process.on_message", self._on_message)(message, passed)
        except (EOFError, OSError):
            log.error("master gone, ending")
        except Exception:  # not a message: what follows cannot be read either, and the master starts another worker
            internal_errors.record("worker_process.receive_messages")
        finally:
            self._worker.end()

    def _on_message(self, message: Message, passed: list[socket]) -> None:
        if "reply" in message:
            self._loop.run_callback(
                internal_errors.guarded("worker_process.on_result", self._on_result), message["reply"], message["result"]
            )
            return
        try:
            result = self._run_command(message["command"], message["arguments"], passed)
        except (LookupError, GmproxyError) as error:
            result = {"error": str(error)}
        except Exception as error:
            internal_errors.record("worker_process.run_command", f"command={message['command']}")
            result = {"error": repr(error)}
        self._send({"reply": message["call"], "result": result})

    def _run_command(self, command: str, arguments: list[Any], passed: list[socket]) -> Result:
        if command == "serve":
            self._reconfigure(arguments[0], passed)
            return {}
        if command == "end":
            self._worker.end(after_next_reply=arguments[0])
            return {}
        return self._worker.run_command(command, arguments)

    def _reconfigure(self, arguments: Mapping[str, Any], passed: list[socket]) -> None:
        """Apply `arguments`, sent by Master.reconfigure, and take over `passed`, the new listening sockets."""
        if self._context.client_counts is not None:
            self._context.client_counts.rows = arguments["client_rows"]
        configs = [configuration.from_plain(plain) for plain in arguments["configs"]]
        self._worker.set_up_logs(configs[0])
        self._worker.reconfigure(configs, arguments["addresses"], dict(zip(arguments["new"], passed)))

    # -- calls of all workers

    def call_workers(self, command: str, arguments: list[Any], then: Callable[[Result | None], Any]) -> None:
        """Run a command in all workers. `then` is called in the loop, with their merged result, or None if it failed or has not arrived within
        CALL_TIMEOUT. Greenlet only: blocks until the master reads."""
        number = next(self._numbers)
        timer = self._loop.timer(CALL_TIMEOUT)
        self._calls[number] = then, timer
        timer.start(internal_errors.guarded("worker_process.on_result", self._on_result), number, None)
        self._send({"call": number, "command": command, "arguments": arguments})

    def _on_result(self, number: int, result: Result | None) -> None:
        call = self._calls.pop(number, None)
        if call is not None:
            then, timer = call
            timer.close()
            then(None if result is not None and "error" in result else result)
