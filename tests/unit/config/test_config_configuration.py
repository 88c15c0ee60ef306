"""From command line, environment and file to a Config: which value is used, and the error for each mistake."""

import dataclasses

import pytest

from gmproxy.config import configuration, description
from gmproxy.config.settings import SETTINGS
from gmproxy.errors import ConfigError
from gmproxy.placement.server_spec import Server

A, B = Server("a", 1), Server("b", 2)


@pytest.fixture
def file(tmp_path):
    """Call it with the text of a configuration file for its path."""

    def write(text):
        path = tmp_path / "gmproxy.conf"
        path.write_text(text)
        return str(path)

    return write


def config(*arguments, **variables):
    configs, _ = configuration.parse(arguments, variables)
    assert len(configs) == 1
    return configs[0]


def mistake(*arguments, **variables):
    """The error, which must be one line."""
    with pytest.raises(ConfigError) as caught:
        configuration.parse(arguments, variables)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- where a setting comes from


def test_defaults():
    made = config("-s", "a:1")
    assert (made.server, made.backup) == ([A], [])
    assert (made.listen, made.port, made.max_connections, made.server_connections) == ("0.0.0.0", 11211, 4096, 20)
    assert (made.timeout, made.connect_timeout) == (1.0, 0.5)


def test_the_line_from_the_field():
    made = config(*"-u root -n 51200 -l 127.0.0.1 -p 12000 -s 127.0.0.1:11211 -s 127.0.0.1:11212 -b 127.0.0.1:11213".split())
    assert (made.user, made.max_connections, made.listen, made.port) == ("root", 51200, "127.0.0.1", 12000)
    assert made.server == [Server("127.0.0.1", 11211), Server("127.0.0.1", 11212)]
    assert made.backup == [Server("127.0.0.1", 11213)]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-s", "a:1", "-s", "b:2"],
        ["-s", "a:1,b:2"],
        ["-s", "a:1; b:2"],
        ["--server", "a:1", "--server=b:2"],
        ["-sa:1", "-sb:2"],
    ],
)
def test_servers_add_up(arguments):
    assert config(*arguments).server == [A, B]


def test_the_nearest_wins(file):
    path = file("server = a:1\nport = 1001\ntimeout = 11\nlisten = here\n")
    environment = {"GMPROXY_PORT": "1002", "GMPROXY_TIMEOUT": "22"}
    made = config("-c", path, "--timeout", "33", **environment)
    assert (made.listen, made.port, made.timeout) == ("here", 1002, 0.033)


def test_servers_do_not_add_up_over_places(file):
    path = file("server = a:1\nserver = b:2\n")
    assert config("-c", path).server == [A, B]
    assert config("-c", path, "-s", "c:3").server == [Server("c", 3)]
    assert config("-c", path, GMPROXY_SERVER="d:4").server == [Server("d", 4)]
    assert config("-s", "c:3", GMPROXY_SERVER="d:4").server == [Server("c", 3)]


@pytest.mark.parametrize("text, value", [("yes", True), ("on", True), ("1", True), ("no", False), ("off", False)])
def test_switches_in_file_and_environment(file, text, value):
    assert config("-c", file(f"server = a:1\nverbose = {text}\n")).verbose is value
    assert config("-s", "a:1", GMPROXY_VERBOSE=text).verbose is value


def test_a_switch_on_the_command_line():
    assert config("-s", "a:1", "-v").verbose is True
    assert config("-s", "a:1").verbose is False


def test_what_a_file_may_look_like(file):
    path = file("\n# comment\n; another\n  PORT=12000 # behind\nmax-connections = 7\nserver = a:1 one\nuser =\n")
    made = config("-c", path)
    assert (made.port, made.max_connections, made.server, made.user) == (12000, 7, [Server("a", 1, name="one")], "")


def test_whose_manners():
    assert configuration.parse(["-s", "a:1"], {})[0][0].compat == "gmproxy"
    assert configuration.parse(["-s", "a:1"], {}, "magent", "magent")[0][0].compat == "magent"
    assert configuration.parse(["-s", "a:1", "--compat", "gmproxy"], {}, "magent", "magent")[0][0].compat == "gmproxy"


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config("-s", "a:1").port = 5


@pytest.mark.parametrize("arguments, action", [(["-t"], "test_conf"), (["--test-conf"], "test_conf"), (["--print-config"], "print_config")])
def test_actions(arguments, action):
    assert configuration.parse(["-s", "a:1", *arguments], {})[1] == {action}
    assert configuration.parse(["-s", "a:1"], {})[1] == set()


def test_the_demo_needs_no_server():
    assert configuration.parse(["--demo"], {})[1] == {"demo"}


@pytest.mark.parametrize("option", ["-h", "--help", "--help-all", "-V", "--version"])
def test_help_and_version_end_well(option, capsys):
    with pytest.raises(SystemExit) as caught:
        configuration.parse([option], {})
    assert caught.value.code == 0
    assert "gmproxy" in capsys.readouterr().out


def test_the_whole_help_has_every_setting(capsys):
    with pytest.raises(SystemExit):
        configuration.parse(["--help-all"], {})
    shown = capsys.readouterr().out
    assert [name for name in SETTINGS if "--" + name.replace("_", "-") not in shown] == []


# -- mistakes


BAD_FILES = [
    ("server = a:1\nprot = 5\n", ":2: there is no setting 'prot'"),
    ("\n\nport = x\n", ":3: port: 'x' is not a whole number from 0 to 65535"),
    ("port = 1\nport = 2\n", ":2: port is set twice"),
    ("port\n", ":1: port has no value"),
    ("server = a:1\nserver = b:c\n", ":2: server: bad server 'b:c'"),
    ("verbose = perhaps\n", ":1: verbose: 'perhaps' is neither yes nor no"),
    ("test_conf = yes\n", ":1: there is no setting 'test_conf'"),
    ("serverr = a:1\n", ":1: there is no setting 'serverr': did you mean server?"),
    ("[section]\n", ":1: sections are not supported: remove '[section]'"),
    ("server a:1\n", ":1: no equals sign: write server = a:1"),
    ("port: 12000\n", ":1: no equals sign: write port = 12000"),
    ("-p 12000\n", ":1: expected name = value: write port = 12000"),
    ("alpha:\n  listen: a:1\n", ":1: 'alpha:' looks like nutcracker.yml: give the file a name that ends in .yml"),
    ('listen = "127.0.0.1"\n', ":1: listen: remove the quotes: write listen = 127.0.0.1"),
    ("server = a:1, b:1\nserver = a:1\n", ":2: server a:1 is also on line 1: remove one"),
    ("server = a:1 one\nserver = a:1 one\n", ":2: server a:1 one is also on line 1"),
    ("server = a:1\nserver = b:1\nbackup = b:1\nbackup = b:1\n", ":4: backup b:1 is also on line 3"),
    ("server = a:1\nserver = b:1\n\nbackup = c:1\nbackup = b:1\n", ":5: backup b:1 is the backup of itself (server on line 2)"),
]


@pytest.mark.parametrize(
    "text",
    [
        "server = a:1 one\nserver = a:1 two\n",  # counts twice, as in some client libraries
        "server = a:1\nserver = b:1\nbackup = b:1\nbackup = a:1\n",  # each server is the other's backup
        "server = a:1\nserver = b:1\nbackup = a:1\n",
    ],
)
def test_servers_that_may_stand_twice(file, text):
    assert config("-c", file(text)).server


def test_equal_servers_on_the_command_line_count_twice_as_for_magent():
    assert config("-s", "a:1", "-s", "a:1").server == [A, A]


def test_a_file_may_begin_with_a_byte_order_mark(file):
    assert config("-c", file("\ufeffserver = a:1\r\nport = 5\r\n")).port == 5


def test_a_file_that_cannot_be_read_is_told_in_plain_words(tmp_path):
    path = tmp_path / "none.conf"
    assert mistake("-c", str(path)) == f"cannot read {path}: No such file or directory"
    for content in (b"server = a:1\n\xff\xfe", b"server = a:1\nunix_socket = /a\0b\n", b"pools = /a\0b.yml"):
        path.write_bytes(content)
        assert mistake("-c", str(path)) == f"{path}: not a text file"
    assert mistake("-c", "/proc/self/mem") == "cannot read /proc/self/mem: Input/output error", "it can be opened"


@pytest.mark.parametrize("text, told", BAD_FILES)
def test_a_mistake_in_the_file_is_told_with_its_line(file, text, told):
    path = file(text)
    assert f"{path}{told}" in mistake("-c", path, "-s", "a:1")


def test_a_file_that_is_not_there(tmp_path):
    assert "nothing.conf" in mistake("-c", str(tmp_path / "nothing.conf"), "-s", "a:1")


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "gmproxy.conf"
    path.write_bytes(b"port = 1\n\xff\xfe\n")
    assert "not a text file" in mistake("-c", str(path), "-s", "a:1")


@pytest.mark.parametrize(
    "arguments, told",
    [
        ([], "no server: give at least one with server = HOST:PORT or -s HOST:PORT"),
        (["-s", "a:b"], "port 'b' is not a number"),
        (["-s", ""], "empty server"),
        (["-s", "a:1", "-p", "99999"], "'99999' is not a whole number from 0 to 65535"),
        (["-s", "a:1", "-p"], "expected one argument"),
        (["-s", "a:1", "-p", "0"], "nothing to listen on"),
        (["-s", "a:1", "--nonsense"], "--nonsense"),
        (["-s", "a:1", "--time", "5"], "--time"),
        (["-s", "a:1", "stray"], "stray"),
        (["-s", "a:1", "-k", "--distribution", "ketama"], "ketama (-k)"),
        (["-s", "a:1", "--distribution", "best"], "'best' is unknown: it must be one of"),
        (["-s", "a:1", "--distribution", "ketma"], "'ketma' is unknown: did you mean ketama? it must be one of"),
        (["-s", "a:1", "--distribtion", "ketama"], "there is no option --distribtion: did you mean --distribution?"),
        (["-s", "127.0.0.1", "11211"], "unexpected argument '11211'"),
        (["-s", "a:1", ""], "unexpected argument ''"),
        (["-s", "11211"], "bad server '11211': the host is missing"),
        (["-s", "10.0.0.300:1"], "'10.0.0.300' is not an IPv4 address"),
        (["-s", "a:1", "-l", "300.0.0.1"], "-l/--listen: '300.0.0.1' is not an address"),
        (["-s", "a:1", "-l", "127.0.0.1, ::x"], "-l/--listen: '::x' is not an address"),
        (["-s", "a:1", "--admin", "1.2.3.400:80"], "--admin: '1.2.3.400:80' is not like"),
        (["-s", "a:1", "--hash-tag", "x"], "not two characters"),
        (["-s", "a:1", "--distribution", "magent", "--points", "5"], "points cannot be used with distribution magent"),
    ],
)
def test_a_mistake_on_the_command_line(arguments, told):
    assert told in mistake(*arguments)


@pytest.mark.parametrize(
    "variable, value, told",
    [
        ("GMPROXY_PORT", "x", "'x' is not a whole number"),
        ("GMPROXY_VERBOSE", "perhaps", "GMPROXY_VERBOSE: 'perhaps' is neither yes nor no"),
        ("GMPROXY_SERVER", "a:b", "environment: GMPROXY_SERVER: bad server 'a:b': port 'b' is not a number"),
        ("GMPROXY_TIMEOT", "5", "environment: there is no setting GMPROXY_TIMEOT: did you mean GMPROXY_TIMEOUT?"),
        ("GMPROXY_Timeout", "5", "environment: there is no setting GMPROXY_Timeout: did you mean GMPROXY_TIMEOUT?"),
        ("GMPROXY_CONFG", "5", "did you mean GMPROXY_CONFIG?"),
    ],
)
def test_a_mistake_in_the_environment(variable, value, told):
    assert told in mistake(**{"GMPROXY_SERVER": "a:1", variable: value})


def test_other_variables_are_nobodys_business():
    assert config("-s", "a:1", PORT="x", GMPROXY_PURE="1").port == 11211


@pytest.mark.parametrize(
    "variable, value",
    [
        ("GMPROXY_SERVICE_HOST", "10.0.0.1"),
        ("GMPROXY_SERVICE_PORT", "11211"),
        ("GMPROXY_SERVICE_PORT_MEMCACHE", "11211"),
        ("GMPROXY_PORT", "tcp://10.0.0.1:11211"),
        ("GMPROXY_PORT_11211_TCP", "tcp://10.0.0.1:11211"),
        ("GMPROXY_PORT_11211_TCP_PROTO", "tcp"),
        ("GMPROXY_PORT_11211_TCP_ADDR", "10.0.0.1"),
        ("GMPROXY_ADMIN_SERVICE_HOST", "10.0.0.1"),
        ("GMPROXY_ADMIN_PORT", "tcp://10.0.0.1:8211"),
    ],
)
def test_what_kubernetes_sets_for_a_service_of_that_name(variable, value):
    assert config("-s", "a:1", **{variable: value}).port == 11211


@pytest.mark.parametrize("variable, kept", [("GMPROXY_PORT", 5), ("GMPROXY_LISTEN", "")])
def test_an_empty_variable(file, variable, kept):
    """A text is then empty. A setting that cannot be empty is read as if the variable were not set."""
    made = config("-c", file("server = a:1\nport = 5\nlisten = here\n"), **{variable: ""})
    assert getattr(made, variable.removeprefix("GMPROXY_").lower()) == kept


# -- from a Config back to text


ARGUMENTS = [
    ["-s", "a:1"],
    ["-s", "[::1]:2"],
    ["-s", "a:1:3 one, [::1]:2", "-b", "unix:/run/m", "-p", "0", "-f", "/run/g", "-n", "5", "--timeout", "250", "-F", "-v", "-I", "2m"],
    ["-s", "a:1,b:2", "--distribution", "ketama", "--hash", "md5", "--hash-tag", "{}", "--on-miss", "always", "--user", "nobody"],
]


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_what_is_printed_gives_the_same(file, arguments):
    configs, _ = configuration.parse(arguments, {})
    printed = description.describe(configs)
    assert configuration.parse(["-c", file(printed)], {})[0] == configs
