"""Two hosts, each with a proxy and a memcached: docs/high-availability.md. When any one of these four processes dies, the clients are still served.

The client is python-memcached with both proxies in its list of servers.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from support.servers import Memcached, Proxy
from support.timing import PATIENCE, TICK, eventually

from faults import values
from faults.model import FINE, Ledger
from faults.stage import OPTIONS

memcache = pytest.importorskip("memcache")

KEYS = ["key-%d" % number for number in range(40)]

#: A client sends no requests to a proxy for this time after it could not connect to it, seconds.
DEAD_RETRY = 4 * TICK

CLIENTS = 4


class Machine:
    """A host: a proxy and a memcached."""

    def __init__(self, stack):
        self._stack = stack
        self.server = stack.enter_context(Memcached())
        self._arguments = ()
        self.proxy = None

    def start_proxy(self, *arguments):
        self._arguments = arguments
        self.proxy = self._stack.enter_context(Proxy(*arguments))

    def restart_proxy(self):
        """Kill the proxy and start another one on the same port."""
        self.proxy.kill()
        port = self.proxy.port
        where = ("-l", self.proxy.host, "-p", port)
        self.proxy = self._stack.enter_context(Proxy(*where, *self._arguments, port=port))


class Pair:
    """Both hosts. Their proxies have the same configuration: each memcached is also the backup of the other one."""

    def __init__(self, stack):
        self.left, self.right = self.machines = Machine(stack), Machine(stack)
        one, other = self.left.server.address, self.right.server.address
        with ThreadPoolExecutor(len(self.machines)) as pool:
            list(
                pool.map(
                    lambda machine: machine.start_proxy("-s", one, "-s", other, "-b", other, "-b", one, "--proxies", "several", *OPTIONS),
                    self.machines,
                )
            )

    def client(self, *machines):
        """A client of the proxies of these hosts; by default of both."""
        return memcache.Client(
            [f"{machine.proxy.host}:{machine.proxy.port}" for machine in machines or self.machines],
            dead_retry=DEAD_RETRY,
            socket_timeout=PATIENCE,
        )


@pytest.fixture
def pair():
    with ExitStack() as stack:
        pair = Pair(stack)
        yield pair
        for machine in pair.machines:
            machine.proxy.check_log()


@pytest.fixture
def client(pair):
    made = pair.client()
    for key in KEYS:
        assert made.set(key, f"value of {key}")
    yield made
    made.disconnect_all()


def all_there(client):
    return all(client.get(key) == f"value of {key}" for key in KEYS)


def all_on_both(pair):
    """True if both servers have all keys: no client waits for the copies."""
    return all(machine.server.stats()["curr_items"] == len(KEYS) for machine in pair.machines)


def everybody_is_trusted(pair):
    """True if neither proxy has ejected a server."""
    return all(machine.proxy.stats()["backends_ejected"] == 0 for machine in pair.machines)


def test_both_proxies_know_where_every_key_is(pair, client):
    for machine in pair.machines:
        assert all_there(pair.client(machine))


@pytest.mark.parametrize("victim", [0, 1])
def test_a_proxy_dies(pair, client, victim):
    pair.machines[victim].proxy.kill()
    client.get(KEYS[0]), client.get(KEYS[1])  # the client may lose a reply until it notices that the proxy is dead
    eventually(lambda: all_there(client), what="the other proxy has everything")
    assert all(client.set(key, "new") for key in KEYS)
    assert all(client.get(key) == "new" for key in KEYS)


def test_a_proxy_comes_back(pair, client):
    pair.left.proxy.kill()
    eventually(lambda: all(client.set(key, "new") for key in KEYS), what="the other proxy takes everything")
    pair.left.restart_proxy()
    eventually(lambda: client.get_multi(KEYS) and pair.left.proxy.stats()["cmd_get"] > 0, what="clients use it again")
    assert all(client.get(key) == "new" for key in KEYS)
    assert all(pair.client(pair.left).get(key) == "new" for key in KEYS)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_memcached_dies(pair, client, victim):
    eventually(lambda: all_on_both(pair))
    pair.machines[victim].server.kill()
    assert all_there(client)
    assert all(client.set(key, f"value of {key}") for key in KEYS)
    assert all_there(client)


def test_a_memcached_comes_back_empty(pair, client):
    eventually(lambda: all_on_both(pair))
    pair.left.server.kill()
    assert all_there(client)
    pair.left.server.restart()
    eventually(lambda: everybody_is_trusted(pair))
    assert all_there(client)


def test_a_whole_machine_dies(pair, client):
    eventually(lambda: all_on_both(pair))
    pair.left.proxy.kill()
    pair.left.server.kill()
    client.get(KEYS[0]), client.get(KEYS[1])
    eventually(lambda: all_there(client), what="the other machine has everything")
    assert all(client.set(key, "new") for key in KEYS)


def test_each_proxy_has_a_server_forget_what_it_changed_itself(pair, client):
    """Each proxy has pending invalidations of its own writes only. Both together have those of all writes."""
    through = [pair.client(machine) for machine in pair.machines]
    pair.left.server.pause()
    for number, key in enumerate(KEYS):
        eventually(lambda: through[number % 2].set(key, "new"), what="the other server takes it")
    for machine, one in zip(pair.machines, through):
        eventually(lambda: one.get_multi(KEYS) and machine.proxy.stats()["backends_ejected"] > 0, what="both have noticed")
    pair.left.server.resume()
    eventually(lambda: everybody_is_trusted(pair))
    for one in through:  # the other proxy's invalidations may take a moment longer
        eventually(lambda: all(one.get(key) in ("new", None) for key in KEYS), what="no old value is found")


class SteadyClient:
    """One python-memcached client in a thread of its own, with keys that no other client writes."""

    def __init__(self, client, name):
        self.client = client
        self.requests = 0
        self.failures = 0  # writes that were not acknowledged, and misses
        self.troubles = []  # values that must not be returned
        self._ledgers = [Ledger(f"{name}-{number}") for number in range(10)]

    def run(self, stop):
        while not stop.is_set():
            for ledger in self._ledgers:
                self._write(ledger)
                self._read(ledger)
                time.sleep(TICK / 50)

    def _write(self, ledger):
        self.requests += 1
        number = ledger.next_number()
        if self.client.set(ledger.key, values.compose(ledger.key.encode(), number)):
            ledger.acknowledged(number)
        else:
            self.failures += 1

    def _read(self, ledger):
        self.requests += 1
        found = self.client.get(ledger.key)
        if found is None:
            self.failures += 1
            return
        origin = values.read(found)
        verdict = ledger.judge(origin.number, ledger.floor) if origin and origin.key == ledger.key.encode() else "wrong"
        if verdict != FINE:
            self.troubles.append(f"{verdict}: {ledger.key} is {origin}, acknowledged {ledger.floor}, asked for {ledger.ceiling}")


def test_a_steady_load_while_one_after_the_other_dies(pair):
    stop = threading.Event()
    steady = [SteadyClient(pair.client(), f"client-{number}") for number in range(CLIENTS)]

    def some_more():
        """Wait until each client has sent 100 more requests."""
        goals = [one.requests + 100 for one in steady]
        eventually(lambda: all(one.requests >= goal for one, goal in zip(steady, goals)) or any(run.done() for run in runs))

    with ThreadPoolExecutor(CLIENTS) as pool:
        runs = [pool.submit(one.run, stop) for one in steady]
        try:
            for machine in pair.machines:
                some_more()
                machine.proxy.kill()
                some_more()
                machine.restart_proxy()
                some_more()
                machine.server.kill()
                some_more()
                machine.server.restart()
                eventually(lambda: everybody_is_trusted(pair))
            some_more()
        finally:
            stop.set()
        for run in runs:
            run.result()
    requests, failures = sum(one.requests for one in steady), sum(one.failures for one in steady)
    print(f"{requests} requests of {CLIENTS} clients, {failures} without a value or an acknowledgement")
    assert not [trouble for one in steady for trouble in one.troubles]
    assert failures < requests / 10
