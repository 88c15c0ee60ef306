"""The command line: the valid arguments, and one clear line for invalid ones."""

import os
import re

import pytest
from support.columns import NEVER_EJECT
from support.servers import HOST, free_port, run, run_here
from support.talk import storage, value
from support.timing import eventually

from gmproxy import __version__
from gmproxy.compiled import BUILD
from gmproxy.config.settings import SETTINGS, option_name

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can change user")

SERVER = ("-s", "127.0.0.1:11211")


def complaint(*arguments, status, program="gmproxy", run=run):
    """The one line that the command prints."""
    done = run(*arguments, program=program)
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.endswith("\n"), done.stderr
    assert done.stderr.startswith(f"{program}: ")
    return done.stderr


# -- valid


@needs_root
def test_the_line_from_the_field(memcached, proxy):
    first, second, backup = memcached(), memcached(), memcached()
    port = free_port()
    process = proxy(
        "-u", "root", "-n", "51200", "-l", HOST, "-p", port, "-s", first.address, "-s", second.address, "-b", backup.address, port=port
    )
    with process.talk() as talk:
        talk.expect(storage(b"set", b"key1", b"hello"), b"STORED\r\n")
        talk.expect(b"get key1\r\n", value(b"key1", b"hello") + b"END\r\n")
        talk.in_step()
    stats = process.stats()
    assert stats["backends"] == 2
    assert stats["max_connections"] == 51200 or f"clients={stats['max_connections']}\n" in process.log(), "fewer where open files are few"
    eventually(lambda: backup.stats()["curr_items"] == 1, what="the asynchronous copy is on the backup")
    with backup.talk() as talk:
        talk.expect(b"get key1\r\n", value(b"key1", b"hello") + b"END\r\n")


def test_every_option_of_magent(memcached, proxy, tmp_path):
    server = memcached()
    process = proxy(
        "-s", server.address, "-b", memcached().address, "-n", "100", "-i", "3", "-k", "-D", "-v", "-f", tmp_path / "socket", *NEVER_EJECT
    )
    with process.talk() as talk:
        talk.expect(storage(b"set", b"k", b"x"), b"STORED\r\n")
        talk.in_step()


@pytest.mark.parametrize(
    "servers",
    [
        ("-s", "{0},{1}"),
        ("-s", "{0};{1}"),
        ("-s", "{0}, {1}"),
        ("-s", "{0}", "-s", "{1}"),
        ("--server", "{0}", "--server", "{1}"),
        ("--server={0}", "--server={1}"),
        ("-s{0}", "-s{1}"),
        ("-s", "{0}:1 first", "-s", "{1}:2 second"),
    ],
)
def test_servers_may_be_written_in_many_ways(servers, memcached, proxy):
    addresses = memcached().address, memcached().address
    process = proxy(*(part.format(*addresses) for part in servers))
    assert process.stats()["backends"] == 2


def test_the_configuration_can_be_checked():
    done = run(*SERVER, "-b", "a:1,b:2", "-t")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "gmproxy: configuration is valid: servers: 1, backups: 2\n"
    done = run(*SERVER, "--replica", "a:1,b:2", "--replica", "c:3", "-t")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "gmproxy: configuration is valid: servers: 1, backups: 0, replicas: 2\n"


@pytest.mark.parametrize("asked", ["-V", "--version"])
def test_the_version_says_which_build_answers(asked):
    done = run(asked)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"gmproxy {__version__} ({BUILD} build)\n"
    assert run(asked, GMPROXY_PURE="1").stdout == f"gmproxy {__version__} (pure build)\n"


def options_in(help_text):
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*", help_text))


def test_help_has_the_common_options():
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert run("-h").stdout == done.stdout
    assert done.stdout.endswith("\ngmproxy --help-all shows all options.\n")
    listed = options_in(done.stdout)
    assert {"-s", "-b", "-l", "-p", "-n", "-k", "-c", "-t", "-V", "-h", "--profile", "--timeout", "--compat", "--help-all"} <= listed
    for setting in SETTINGS.values():
        assert (option_name(setting) in listed) == setting.common, setting.name


def test_help_all_has_all_options():
    done = run("--help-all")
    assert (done.returncode, done.stderr) == (0, "")
    listed = options_in(done.stdout)
    for setting in SETTINGS.values():
        assert {option_name(setting), setting.flag} - {""} <= listed, setting.name
    assert options_in(run("--help").stdout) <= listed


@pytest.mark.parametrize("option", ["--help", "--help-all"])
def test_help_fits_80_columns(option):
    assert max(map(len, run(option, COLUMNS="200").stdout.splitlines())) <= 80


# -- usage: status 2


@pytest.mark.parametrize(
    "arguments, says",
    [
        ((), "no server"),
        (("-p", "12000"), "no server"),
        (("-s",), "-s"),
        (("-s", ""), "empty server"),
        (("-s", "a:b"), "port 'b' is not a number"),
        (("-s", "a:70000"), "port 70000 is not a number from 1 to 65535"),
        (("-s", "a:1,,b:1"), "empty server"),
        (("-s", "::1:11211"), "an IPv6 address needs brackets"),
        (("-s", "unix:relative"), "absolute path"),
        (("-b", "a:b", *SERVER), "port 'b' is not a number"),
        (("-p", "70000", *SERVER), "'70000' is not a whole number"),
        (("-p", "http", *SERVER), "'http' is not a whole number"),
        (("-p", "-1", *SERVER), "-p"),
        (("-n", "1_000", *SERVER), "'1_000' is not a whole number"),
        (("-n", "١٢", *SERVER), "is not a whole number"),
        (("-i", "many", *SERVER), "'many' is not a whole number"),
        (("-I", "1", *SERVER), "is not a size"),
        (("-I", "1g", *SERVER), "is not a size"),
        (("--timeout", "1.5", *SERVER), "'1.5' is not a whole number"),
        (("--timeout", "0", *SERVER), "'0' is not a whole number"),
        (("--distribution", "rnd", *SERVER), "'rnd' is unknown: did you mean random?"),
        (("--hash", "sha512", *SERVER), "'sha512' is unknown"),
        (("--hash-tag", "{", *SERVER), "'{' is not two characters"),
        (("--on-miss", "perhaps", *SERVER), "'perhaps' is unknown"),
        (("--compat", "mcrouter", *SERVER), "'mcrouter' is unknown"),
        (("-k", "--distribution", "modula", *SERVER), "ketama"),
        (("-p", "0", *SERVER), "nothing to listen on"),
        (("--nonsense", *SERVER), "--nonsense"),
        (("-q", *SERVER), "-q"),
        (("--serve", "a:1"), "--serve"),  # no abbreviation: a later version might have two such options
        (("stray", *SERVER), "stray"),
        (("-c", "/no/such/file"), "/no/such/file"),
        (("-c", "/"), "/"),
    ],
)
def test_wrong_usage(arguments, says):
    assert says in complaint(*arguments, "-t", status=2, run=run_here)


def test_a_host_name_that_nobody_can_have():
    assert "a" * 64 in complaint("-s", "a" * 64 + ":1", "-t", status=2)


@pytest.mark.parametrize("action", [(), ("-t",), ("--print-config",)])
def test_wrong_usage_ends_the_command(action):
    assert "port 'b' is not a number" in complaint("-s", "a:b", *action, status=2)


@pytest.mark.parametrize("program", ["gmproxy", "magent"])
def test_a_command_complains_in_its_own_name(program):
    assert "no server" in complaint(program=program, status=2)


# -- the system refuses: status 1


def test_a_port_in_use(memcached):
    port = memcached().port
    line = complaint(*SERVER, "-l", HOST, "-p", port, status=1)
    assert f"{HOST}:{port}" in line and "Address already in use" in line


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("-l", "no-such-host.invalid"), "no-such-host.invalid"),
        (("-l", "192.0.2.1"), "192.0.2.1"),  # an address for documentation: no host has it
        (("-l", "127.0.0.1,192.0.2.1"), "192.0.2.1"),
        (("--pid-file", "/no/such/directory/pid"), "/no/such/directory/pid"),
        (("--log-file", "/no/such/directory/log"), "/no/such/directory/log"),
        (("-f", "/no/such/directory/socket"), "/no/such/directory/socket"),
        (("-f", "/etc/passwd"), "is not a socket"),
    ],
)
@pytest.mark.parametrize("program", ["gmproxy", "magent"])
def test_the_machine_refuses(arguments, says, program):
    """With --daemon too, the command reports the error."""
    assert says in complaint(*SERVER, "-l", HOST, "-p", free_port(), *arguments, program=program, status=1)


@pytest.mark.parametrize("option, what", [("-u", "user"), ("-g", "group")])
def test_nobody_is_not_known(option, what):
    """magent accepts it: see test_magent.py."""
    line = complaint(*SERVER, "-l", HOST, "-p", free_port(), option, "no-such-one", status=1)
    assert f"there is no {what} 'no-such-one'" in line
