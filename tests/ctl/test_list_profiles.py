"""gmproxy --list-profiles: the valid values of --profile."""

import pytest
from support.servers import run

from gmproxy.config import configuration
from gmproxy.placement.profiles import PROFILES


@pytest.fixture(scope="module")
def listed():
    done = run("--list-profiles")
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split(None, 1) for line in done.stdout.splitlines()]


def test_a_line_with_a_sentence_for_each(listed):
    assert [name for name, sentence in listed] == list(PROFILES)
    assert all(sentence for name, sentence in listed)


def test_names_stand_apart_from_sentences():
    assert max(map(len, PROFILES)) < 40


@pytest.mark.parametrize(
    "program",
    [
        "magent",
        "twemproxy",
        "nodeproxy",
        "libmemcached",
        "libketama",
        "pylibmc",
        "php-memcached",
        "php-memcache",
        "python-memcached",
        "pymemcache",
        "perl-cache-memcached",
        "perl-cache-memcached-fast",
        "dalli",
        "node-memcached",
        "spymemcached",
        "whalin",
    ],
)
def test_every_program_is_there(program, listed):
    assert program in dict(listed)


def test_every_name_is_taken(listed):
    for name, _ in listed:
        [config], _ = configuration.parse(["-s", "10.0.0.1:11211,10.0.0.2:11211", "--profile", name, "-t"], {})
        assert config.profile == name
