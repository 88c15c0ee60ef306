"""Only a server's fault counts against a server: not a pause of the proxy, not a lack of descriptors, not the name service."""

import getpass
import os
import resource
import signal
import threading
import time

import pytest
from support.names import NameServer, needs_root
from support.relay import Relay
from support.servers import HOST, Proxy, free_port, has_ipv6
from support.service import Load
from support.talk import storage, value
from support.timing import eventually, join

STORED = b"STORED\r\n"
END = b"END\r\n"

#: Keys of which each of a few servers has some.
KEYS = [b"key%d" % number for number in range(64)]


def set_all(talk, keys=KEYS):
    """The replies to a `set` of each."""
    talk.send(b"".join(storage(b"set", key, b"x") for key in keys))
    return [talk.read_line() for _ in keys]


# -- a pause


#: Longer than the timeout: if the pause counted, every request in flight would be late.
TIMEOUT_MS, PAUSE, DISTANCE = 1000, 1.5, 0.03


def pause(process, seconds):
    process.pause()
    time.sleep(seconds)  # the test needs the pause itself: there is no condition to wait for
    process.resume()


@pytest.mark.parametrize("more", [[], ["--workers", "2"]], ids=["one process", "two workers"])
def test_after_a_pause_of_the_proxy_no_server_is_late(memcached, more):
    """The replies are in the sockets, or requests have not been sent yet. Both builds, servers 30 ms away."""
    server = memcached()
    with server.talk() as talk:
        talk.expect(storage(b"set", b"k", b"hello"), STORED)
    with Relay(server) as relay:
        relay.delay(DISTANCE)
        with (
            Proxy("-s", relay.address, "--auto-eject-hosts", "--timeout", TIMEOUT_MS, *more) as proxy,
            Load(proxy.port, keeping=10, connecting=2) as load,
        ):
            for _ in range(2):
                for pid in family(proxy.pid):
                    os.kill(pid, signal.SIGSTOP)
                time.sleep(PAUSE)
                for pid in family(proxy.pid):
                    os.kill(pid, signal.SIGCONT)
                load.wait_for_more(100)
            assert "backend failed" not in proxy.log()
            assert "backend ejected" not in proxy.log()


def family(pid):
    """The process and its children."""
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return [pid, *map(int, children.read().split())]


def test_a_connection_being_made_is_no_failure_after_a_pause(memcached, proxy, tmp_path):
    """The first replies of the server (to `version`, before a login) arrive while the proxy is stopped for longer than its timeouts."""
    user = tmp_path / "user"
    user.write_text("one:secret\n")
    user.chmod(0o600)
    with Relay(memcached()) as relay:
        relay.hold()
        front = proxy("-s", relay.address, "--timeout", TIMEOUT_MS, "--connect-timeout", TIMEOUT_MS, "--server-auth-file", user)
        with front.talk() as talk:
            talk.send(storage(b"set", b"k", b"x"))
            eventually(lambda: relay.connections)
            front.pause()
            relay.pass_on()
            time.sleep(PAUSE)
            front.resume()
            assert talk.read_line() == STORED
        assert "backend failed" not in front.log()


def test_a_server_that_hangs_is_still_noticed_after_a_pause(memcached, proxy):
    server = memcached()
    front = proxy("-s", server.address, "--timeout", "200")
    with front.talk() as talk:
        talk.expect(storage(b"set", b"k", b"x"), STORED)
        server.pause()
        talk.send(storage(b"set", b"k", b"y"))
        pause(front, 0.5)
        assert talk.read_line() == b"SERVER_ERROR timeout %b\r\n" % server.address.encode()
        server.resume()


# -- lack of descriptors


def test_without_descriptors_no_server_is_ejected(memcached, proxy):
    """More requests fail than it takes to eject. Once there are descriptors again, it serves at once."""
    server = memcached()
    front = proxy("-s", server.address, "--auto-eject-hosts", "--server-retry-timeout", "60000")
    with front.talk() as talk:
        talk.in_step()
        talk.wait_until_alone()
        before = take_descriptors(front.pid)
        answers = set(set_all(talk))
        assert answers == {b"SERVER_ERROR overload %b\r\n" % server.address.encode()}
        resource.prlimit(front.pid, resource.RLIMIT_NOFILE, before)
        talk.expect(storage(b"set", b"k", b"x"), STORED)
    log = front.log()
    assert "ejected" not in log and "backend failed" not in log
    assert log.count("backend not connected") == 1 and "reason=overload detail='Too many open files'" in log
    assert "backend overloaded" not in log


def take_descriptors(pid):
    """The process gets no further descriptor: its limit is set to the lowest free one. Returns the previous limits."""
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    lowest_free = next(number for number in range(1 << 16) if number not in taken)
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    return resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, hard))


def test_without_descriptors_a_probe_says_nothing(memcached, proxy):
    """An ejected server is restored as soon as it can be probed, however long that was not possible."""
    server = memcached()
    front = proxy("-s", server.address, "--server-failure-limit", "1", "--server-retry-timeout", "400", "-v")
    with front.talk() as talk:
        server.kill()
        eventually(lambda: b"ejected" in talk.ask(storage(b"set", b"k", b"x")))
        before = take_descriptors(front.pid)
        server.restart()
        eventually(lambda: front.log().count("probe not made") >= 3)
        resource.prlimit(front.pid, resource.RLIMIT_NOFILE, before)
        eventually(lambda: talk.ask(storage(b"set", b"k", b"x")) == STORED)


# -- the name service


NAMED = [f"cache{number}.shop.example" for number in range(12)]


#: A name lookup takes longer than any wait of the tests.
PATIENT = {"RES_OPTIONS": "timeout:30 attempts:5"}


@needs_root
def test_a_dead_name_service_does_not_keep_us_from_addresses(memcached, tmp_path):
    """Twelve servers by name, each with requests. Servers by IPv4 address, IPv6 address and path are connected to, and restored, as usual."""
    servers = [memcached(), memcached("-u", getpass.getuser(), unix_socket=tmp_path / "socket")]
    if has_ipv6():
        servers.append(memcached(host="::1"))
    with NameServer() as names:
        names.silent = True
        arguments = [
            word for where in [*(f"{name}:{free_port()}" for name in NAMED), *(each.address for each in servers)] for word in ("-s", where)
        ]
        with (
            Proxy(
                *arguments, "--server-failure-limit", "2", "--server-retry-timeout", "300", prefix=names.prefix, variables=PATIENT
            ) as front,
            front.talk() as talk,
        ):
            answers = ask_apart(front, KEYS)
            assert answers.count(STORED) > 3
            by_name = {answer for answer in answers if answer != STORED}
            assert len(by_name) > 6 and all(answer.startswith(b"SERVER_ERROR connecting cache") for answer in by_name)
            assert names.asked
            servers[0].kill()
            ours = [key for key, answer in zip(KEYS, answers) if answer == STORED]
            gone = b"SERVER_ERROR ejected %b\r\n" % servers[0].address.encode()
            eventually(lambda: gone in set_all(talk, ours))
            servers[0].restart()
            eventually(lambda: set(set_all(talk, ours)) == {STORED})
            log = front.log()
            assert "ejected server=cache" not in log and "backend failed server=cache" not in log
            assert "detail='name:" in log
            assert front.stop() == 0, "lookups under way, for which stop() does not wait, do not hold up the end"


def ask_apart(front, keys):
    """The replies to a `set` of each key, each sent by a new client: none waits for the reply to another."""
    answers = [None] * len(keys)

    def ask(number):
        with front.talk() as talk:
            answers[number] = talk.ask(storage(b"set", keys[number], b"x"))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(keys))]
    for thread in threads:
        thread.start()
    for thread in threads:
        join(thread)
    return answers


@needs_root
def test_while_the_name_service_is_silent_the_last_addresses_hold(memcached):
    server = memcached()
    with NameServer() as names, Relay(server) as relay:
        names.addresses = [HOST]
        with Proxy("-s", f"cache.shop.example:{relay.port}", prefix=names.prefix) as front, front.talk() as talk:
            talk.expect(storage(b"set", b"k", b"x"), STORED)
            names.silent = True
            for _ in range(5):
                relay.cut()
                eventually(lambda: relay.connections == 0)
                eventually(lambda: talk.ask(b"get k\r\n", END) == value(b"k", b"x") + END)
            assert "backend ejected" not in front.log()


@needs_root
def test_a_name_that_does_not_exist_ejects_nobody(memcached):
    server = memcached()
    with NameServer() as names, Proxy("-s", f"cache.shop.example:{server.port}", prefix=names.prefix) as front, front.talk() as talk:
        assert all(answer.startswith(b"SERVER_ERROR connecting") for answer in set_all(talk))
        names.addresses = [HOST]
        eventually(lambda: talk.ask(storage(b"set", b"k", b"x")) == STORED)
        assert "ejected" not in front.log()
