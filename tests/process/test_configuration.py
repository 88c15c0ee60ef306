"""Settings from a file and from the environment: which value is used, and what an error reports and where."""

import os
import subprocess
import sys

import pytest
from support.servers import run_here
from support.timing import PATIENCE

from gmproxy.config.settings import SETTINGS

SERVER = ("-s", "127.0.0.1:11211")


@pytest.fixture
def write(tmp_path):
    """Write a configuration file; returns its path."""

    def write(*lines):
        path = tmp_path / "gmproxy.conf"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def effective(*arguments, **variables):
    """The settings that --print-config prints, as a dict of texts."""
    done = run_here(*arguments, "--print-config", **variables)
    assert (done.returncode, done.stderr) == (0, "")
    pairs = (line.removeprefix("# ").split("=", 1) for line in done.stdout.splitlines())
    return {name.strip(): value.strip() for name, value in pairs}


def complaint(*arguments, **variables):
    done = run_here(*arguments, "-t", **variables)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("gmproxy: "), done.stderr
    return done.stderr


# -- the file


def test_a_file(write):
    file = write(
        "# a comment",
        "; another",
        "",
        "server = 10.0.0.1:11211, 10.0.0.2:11211:3 second",
        "server = unix:/run/memcached.sock",
        "backup=10.0.0.3",
        "  port =  12000  ",
        "listen = 127.0.0.1   # who can reach us",
        "max-connections = 100",
        "KETAMA = yes",
        "timeout = 250",
        "user =",
    )
    found = effective("-c", file)
    assert found["server"] == "10.0.0.1:11211, 10.0.0.2:11211:3 second, unix:/run/memcached.sock"
    assert found["backup"] == "10.0.0.3:11211"
    assert (found["port"], found["listen"], found["max_connections"]) == ("12000", "127.0.0.1", "100")
    assert (found["ketama"], found["timeout"], found["user"]) == ("yes", "250", "")


@pytest.mark.parametrize(
    "line, says",
    [
        ("wrokers = 3", "there is no setting 'wrokers'"),
        ("config = /etc/other", "there is no setting 'config'"),
        ("test_conf = yes", "there is no setting 'test_conf'"),
        ("[section]", "sections are not supported: remove '[section]'"),
        ("port 12000", "no equals sign: write port = 12000"),
        ("port", "port has no value"),
        ("port = many", "'many' is not a whole number"),
        ("port = 70000", "'70000' is not a whole number"),
        ("backup = a:b", "port 'b' is not a number"),
        ("ketama = perhaps", "'perhaps' is neither yes nor no"),
        ("distribution = rnd", "'rnd' is unknown: did you mean random?"),
        ("listen = 10.0.0.1\nlisten = 10.0.0.2", "listen is set twice"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place(write, line, says):
    file = write("# the first line", "server = a:1", line)
    number = 3 + line.count("\n")
    message = complaint("-c", file)
    assert f"{file}:{number}: " in message and says in message


def test_a_file_that_is_no_text(tmp_path):
    file = tmp_path / "gmproxy.conf"
    file.write_bytes(b"server = a:1\n\xff\xfe\x00\n")
    assert "not a text file" in complaint("-c", file)


def test_what_is_wrong_with_the_whole_has_no_line(write):
    assert "no server" in complaint("-c", write("port = 12000"))


# -- the environment


def test_the_environment():
    found = effective(GMPROXY_SERVER="a:1,b:2", GMPROXY_PORT="12000", GMPROXY_KETAMA="on", GMPROXY_VERBOSE="no")
    assert (found["server"], found["port"], found["ketama"], found["verbose"]) == ("a:1, b:2", "12000", "yes", "no")


@pytest.mark.parametrize(
    "variable, text, says",
    [
        ("GMPROXY_PORT", "many", "'many' is not a whole number"),
        ("GMPROXY_SERVER", "a:b", "port 'b' is not a number"),
        ("GMPROXY_KETAMA", "perhaps", "'perhaps' is neither yes nor no"),
    ],
)
def test_a_mistake_in_the_environment(variable, text, says):
    assert says in complaint(**{"GMPROXY_SERVER": "a:1", variable: text})


# -- precedence


def test_the_nearest_wins(write):
    """The order is command line, environment, file, default."""
    file = write("server = file:1", "port = 1000", "timeout = 1000", "connect_timeout = 1000")
    environment = {"GMPROXY_TIMEOUT": "2000", "GMPROXY_CONNECT_TIMEOUT": "2000"}
    found = effective("-c", file, "--connect-timeout", "3000", **environment)
    assert found["port"] == "1000"
    assert found["timeout"] == "2000"
    assert found["connect_timeout"] == "3000"
    assert found["backlog"] == SETTINGS["backlog"].default


def test_lists_of_different_places_do_not_mix(write):
    file = write("server = file:1, file:2")
    assert effective("-c", file)["server"] == "file:1, file:2"
    assert effective("-c", file, GMPROXY_SERVER="env:1")["server"] == "env:1"
    assert effective("-c", file, "-s", "line:1", "-s", "line:2", GMPROXY_SERVER="env:1")["server"] == "line:1, line:2"


def test_a_switch_can_be_turned_off_by_who_is_nearer(write):
    file = write("server = a:1", "ketama = yes", "preconnect = true")
    found = effective("-c", file, GMPROXY_KETAMA="no")
    assert (found["ketama"], found["preconnect"]) == ("no", "yes")
    found = effective("-c", file, "--ketama", GMPROXY_KETAMA="no", GMPROXY_PRECONNECT="off", GMPROXY_TCPKEEPALIVE="no")
    assert (found["ketama"], found["preconnect"], found["tcpkeepalive"]) == ("yes", "no", "no")


# -- the printed settings can be used


@pytest.mark.parametrize(
    "arguments",
    [
        ("-s", "a:1"),
        ("-s", "a:1:3 first,[::1]:2,unix:/run/m.sock:2 third", "-b", "b", "-k", "-n", "51200", "-p", "0", "-f", "/run/gmproxy.sock"),
        ("-s", "a:1", "--timeout", "250", "-I", "4m", "--hash-tag", "{}", "--distribution", "ketama", "--hash", "md5", "-D", "-v", "-F"),
        ("-s", "a:1", "-s", "b:2", "--profile", "python-memcached", "--on-get-error", "error", "--on-miss", "always", "-u", "nobody"),
        ("-s", "a:1", "--hash-tag", "##"),
    ],
)
def test_the_printed_configuration_gives_the_same(arguments, write):
    printed = run_here(*arguments, "--print-config")
    assert (printed.returncode, printed.stderr) == (0, "")
    again = run_here("-c", write(*printed.stdout.splitlines()), "--print-config")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == printed.stdout


def test_every_setting_is_printed():
    assert set(effective(*SERVER)) == set(SETTINGS)


@pytest.mark.parametrize(
    "program", ["gmproxy --help-all", "gmproxy --list-profiles", "gmproxy -s a:1 --print-config", "gmproxy.ctl --help"]
)
def test_a_reader_that_closes_the_pipe_is_no_error(program):
    """As `gmproxy --list-profiles | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", *program.split()]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
