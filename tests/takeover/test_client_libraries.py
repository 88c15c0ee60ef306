"""Applications that chose the server themselves: gmproxy finds what they stored, key by key.

Each client library stores its keys directly in the servers (clients/README.md). A library that is not installed is skipped, or with
GMPROXY_TEST_CLIENTS=all a failure.
"""

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from shards import counts, found, keys_of
from support.timing import PATIENCE, PROGRAM_TIMEOUT

CLIENTS = Path(__file__).parent / "clients"


class Client(NamedTuple):
    """`present` is a command that succeeds if the library is installed. {0} is a Python interpreter."""

    script: str
    present: tuple
    interpreter: tuple


def python(script, module):
    return Client(script, ("-c", f"import {module}"), (sys.executable, "/usr/bin/python3"))


def php(script, class_name):
    return Client(script, ("-r", f"exit(class_exists('{class_name}') ? 0 : 1);"), ("php",))


def perl(script, module):
    return Client(script, (f"-M{module}", "-e", "1"), ("perl",))


LIBRARIES = {
    "python-memcached": python("python-memcached.py", "memcache"),
    "pylibmc": python("pylibmc-client.py", "pylibmc"),
    "pymemcache": python("pymemcache-hashclient.py", "pymemcache"),
    "php-memcached": php("php-memcached.php", "Memcached"),
    "php-memcache": php("php-memcache.php", "Memcache"),
    "Cache::Memcached": perl("cache-memcached.pl", "Cache::Memcached"),
    "Cache::Memcached::Fast": perl("cache-memcached-fast.pl", "Cache::Memcached::Fast"),
    "dalli": Client("dalli-client.rb", ("-e", "require 'dalli'"), ("ruby",)),
    "npm memcached": Client("node-memcached.js", ("-e", "require('memcached')"), ("node",)),
}


@functools.cache
def interpreter_of(library):
    """The interpreter of the script of `library`, or None if it is not installed."""
    client = LIBRARIES[library]
    for interpreter in client.interpreter:
        try:
            if subprocess.run([interpreter, *client.present], capture_output=True, cwd=CLIENTS, timeout=PROGRAM_TIMEOUT).returncode == 0:
                return interpreter
        except FileNotFoundError:
            pass
    return None


def store_with(library, mode, servers, weights, keys):
    """Let `library` store `keys`, as an application with these servers does."""
    interpreter = interpreter_of(library)
    if interpreter is None:
        complain = pytest.fail if os.environ.get("GMPROXY_TEST_CLIENTS") == "all" else pytest.skip
        complain(f"{library} is not installed")
    done = subprocess.run(
        [interpreter, CLIENTS / LIBRARIES[library].script, mode, *weighted(servers, weights)],
        input="".join(f"{key}\n" for key in keys),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    assert done.returncode == 0, done.stderr


def weighted(servers, weights):
    return [f"{server.address}:{weight}" for server, weight in zip(servers, weights)]


EQUAL = (1, 1, 1)
UNEQUAL = (1, 2, 3)


CASES = [
    ("python-memcached", "default", EQUAL, "--profile python-memcached"),
    ("python-memcached", "default", UNEQUAL, "--profile python-memcached"),
    ("pylibmc", "default", EQUAL, "--profile pylibmc"),
    ("pylibmc", "default", UNEQUAL, "--profile pylibmc"),
    ("pylibmc", "ketama", EQUAL, "--profile pylibmc-ketama"),
    ("pylibmc", "ketama", UNEQUAL, "--profile pylibmc-ketama"),
    ("pylibmc", "ketama_weighted", EQUAL, "--profile pylibmc-ketama-weighted"),
    ("pylibmc", "ketama_weighted", UNEQUAL, "--profile pylibmc-ketama-weighted"),
    ("pymemcache", "default", EQUAL, "--profile pymemcache"),
    ("pymemcache", "bytes", EQUAL, "--profile pymemcache-bytes"),
    ("php-memcached", "default", EQUAL, "--profile php-memcached"),
    ("php-memcached", "default", UNEQUAL, "--profile php-memcached"),
    ("php-memcached", "consistent", EQUAL, "--profile php-memcached-consistent"),
    ("php-memcached", "consistent", UNEQUAL, "--profile php-memcached-consistent"),
    ("php-memcached", "libketama", EQUAL, "--profile php-memcached-libketama"),
    ("php-memcached", "libketama", UNEQUAL, "--profile php-memcached-libketama"),
    ("php-memcached", "prefix", EQUAL, "--profile php-memcached --unhashed-prefix app:"),
    ("php-memcache", "default", EQUAL, "--profile php-memcache"),
    ("php-memcache", "consistent-crc32", UNEQUAL, "--profile php-memcache"),
    ("php-memcache", "consistent-fnv", UNEQUAL, "--profile php-memcache-fnv"),
    ("php-memcache", "standard-crc32", UNEQUAL, "--profile php-memcache-standard"),
    ("php-memcache", "standard-fnv", UNEQUAL, "--profile php-memcache-standard-fnv"),
    ("Cache::Memcached", "default", EQUAL, "--profile perl-cache-memcached"),
    ("Cache::Memcached", "default", UNEQUAL, "--profile perl-cache-memcached"),
    ("Cache::Memcached", "namespace", EQUAL, "--profile perl-cache-memcached --unhashed-prefix app:"),
    ("Cache::Memcached::Fast", "default", EQUAL, "--profile perl-cache-memcached-fast"),
    ("Cache::Memcached::Fast", "default", (0.5, 1.25, 3), "--profile perl-cache-memcached-fast"),
    ("Cache::Memcached::Fast", "namespace", EQUAL, "--profile perl-cache-memcached-fast --unhashed-prefix app:"),
    ("Cache::Memcached::Fast", "ketama", EQUAL, "--profile perl-cache-memcached-fast-ketama"),
    ("Cache::Memcached::Fast", "ketama", UNEQUAL, "--profile perl-cache-memcached-fast-ketama"),
    ("dalli", "default", EQUAL, "--profile dalli"),
    ("dalli", "default", UNEQUAL, "--profile dalli"),
    ("dalli", "namespace", EQUAL, "--profile dalli"),
    ("npm memcached", "default", EQUAL, "--profile node-memcached"),
    ("npm memcached", "default", UNEQUAL, "--profile node-memcached"),
    ("npm memcached", "hash_ring", EQUAL, "--profile node-memcached-hash_ring"),
]


@pytest.mark.parametrize("library, mode, weights, options", CASES, ids=lambda part: part if isinstance(part, str) else str(max(part)))
def test_not_one_miss(library, mode, weights, options, servers, proxy):
    prefix = "app:" if mode in ("prefix", "namespace") else ""
    keys = keys_of(f"{library}-{mode}-{max(weights)}".replace(" ", "-"))
    store_with(library, mode, servers, weights, keys)
    process = proxy("-s", ",".join(weighted(servers, weights)), *options.split())
    with process.talk() as talk:
        assert found(talk, keys, prefix) == keys
    held = counts(servers, keys, prefix)
    assert sum(held) == len(keys) and all(held), "each key is on one server, and each server has some"
