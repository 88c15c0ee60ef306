"""Actions of operators on a running service, and a steady load of clients."""

import threading

from gmproxy.system import control_socket
from support.servers import read_stats
from support.talk import Talk, value
from support.timing import eventually, join


def order(process, *words):
    """Send a control command and return its reply. `process` is a Proxy that was started with --control; its `control` is the path."""
    return control_socket.send_command(process.control, *words)


def errors_of(process):
    """{reason: number of failed requests} of all servers of `process`, from its control socket."""
    backends = order(process, "report")["pools"]["default"]["backends"]
    return {reason: sum(backend["errors"][reason] for backend in backends) for reason in backends[0]["errors"]}


def reloaded(process, times=1):
    """Wait until the log has at least `times` reloads, refused or not."""

    def told():
        log = process.log()
        return log.count("INFO reloaded") + log.count("ERROR reload refused") >= times

    eventually(told, what="the reload")


def clients_are(process, count):
    return eventually(lambda: process.stats()["curr_connections"] == count, what=f"{count} clients")


class Load:
    """Clients in threads that send requests without a pause during the `with` block. A wrong reply fails the test.

    `connecting` of them open a connection for each request, `keeping` of them keep theirs. `key` must have the value `data`.
    """

    def __init__(self, port, key=b"k", data=b"hello", keeping=2, connecting=2):
        self._port = port
        self._request = b"get %b\r\n" % key
        self._answer = value(key, data) + b"END\r\n"
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(self._keep,)) for _ in range(keeping)]
        self._threads += [threading.Thread(target=self._run, args=(self._connect,)) for _ in range(connecting)]
        self.trouble = []
        self.asked = 0

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self.wait_for_more()
        return self

    def __exit__(self, *failure):
        self._over.set()
        for thread in self._threads:
            join(thread)
        assert not self.trouble

    def wait_for_more(self, count=200):
        """Wait until `count` more requests have replies."""
        target = self.asked + count
        eventually(lambda: self.asked >= target or self.trouble, what="replies under load")
        assert not self.trouble

    def _run(self, ask):
        try:
            ask()
        except Exception as error:
            self.trouble.append(repr(error))

    def _keep(self):
        with Talk(self._port) as talk:
            while not self._over.is_set():
                self._ask(talk)

    def _connect(self):
        while not self._over.is_set():
            with Talk(self._port) as talk:
                self._ask(talk)

    def _ask(self, talk):
        talk.expect(self._request, self._answer)
        self.asked += 1


__all__ = ["Load", "clients_are", "errors_of", "order", "read_stats", "reloaded"]
