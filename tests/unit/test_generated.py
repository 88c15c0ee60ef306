"""The files that `make generated` makes from the settings table are up to date."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.timing import PROGRAM_TIMEOUT

from gmproxy.config.configuration import make_configs, parser_for, read_arguments
from gmproxy.config.settings import SETTINGS
from gmproxy.ctl import USAGE

ROOT = Path(__file__).resolve().parents[2]
MANUAL = ROOT / "docs/man"

BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")


def generate(script, *arguments):
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / script, *arguments], capture_output=True, text=True, check=True, timeout=PROGRAM_TIMEOUT
    )
    return done.stdout


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


# -- the sample configuration


def config_of(file):
    (config,) = make_configs(read_arguments(parser_for("gmproxy"), ["-c", str(file)], {}))
    return config


def test_the_sample_configuration_is_as_it_is_generated():
    assert read("conf/gmproxy.conf") == generate("sample-conf"), "run make generated"


def test_the_sample_configuration_names_every_setting_once():
    named = re.findall(r"^#?(\w+) =", read("conf/gmproxy.conf"), re.MULTILINE)
    assert named == list(SETTINGS)


def test_the_sample_configuration_can_be_used():
    config = config_of(ROOT / "conf/gmproxy.conf")
    assert [str(server) for server in config.server] == ["127.0.0.1:11211"]
    assert (config.listen, config.port, config.user) == ("127.0.0.1", 12000, "gmproxy")


def test_every_line_of_the_sample_configuration_can_be_used(tmp_path):
    file = tmp_path / "all.conf"
    file.write_text(re.sub(r"^#(\w+ =)", r"\1", read("conf/gmproxy.conf"), flags=re.MULTILINE))
    config = config_of(file)
    assert len(config.backup) == 1
    assert config.unix_socket and config.log_file


# -- manual pages


@pytest.mark.parametrize("name", ["gmproxy.8", "gmproxy.conf.5", "magent.8"])
def test_a_manual_page_is_as_it_is_generated(name, tmp_path):
    shutil.copy(MANUAL / name, tmp_path)
    generate("man-options", tmp_path / name)
    assert read(f"docs/man/{name}") == (tmp_path / name).read_text(), "run make generated"


def test_the_manual_page_of_gmproxy_has_every_option_of_its_command_line():
    """Also those that are not in the settings table."""
    options = set(re.findall(r"--[a-z][a-z-]+", parser_for("gmproxy", help_all=True).format_help()))
    described = set(re.findall(r"--[a-z][a-z-]+", read("docs/man/gmproxy.8").replace("\\-", "-")))
    assert options and not options - described


def test_the_manual_page_of_gmproxyctl_has_what_its_help_has():
    text = read("docs/man/gmproxyctl.1").replace("\\-", "-")
    words = set(re.findall(r"gmproxyctl [a-z-]+|--[a-z]+", USAGE))
    assert words and not [word for word in words if word not in text]


def test_manual_pages_have_no_mistake_in_their_form():
    if not shutil.which("groff"):
        pytest.skip("groff is not installed")
    for page in sorted(MANUAL.iterdir()):
        done = subprocess.run(["groff", "-man", "-Tascii", "-ww", "-z", page], capture_output=True, text=True, timeout=PROGRAM_TIMEOUT)
        assert (done.returncode, done.stderr) == (0, ""), page.name


# -- completion


def test_the_completion_is_as_it_is_generated():
    assert read("conf/bash-completion") == generate("bash-completion"), "run make generated"


@pytest.mark.skipif(not BASH_COMPLETION.exists(), reason="bash-completion is not installed")
@pytest.mark.parametrize(
    "line, offered",
    [
        ("gmproxy --conn", ["--connect-timeout"]),
        ("gmproxy -s a:1 --on-miss a", ["always"]),
        ("magent -u roo", ["root"]),
    ],
)
def test_bash_completes(line, offered):
    ask = f"""
        source {BASH_COMPLETION}; source {ROOT}/conf/bash-completion
        COMP_LINE="{line}" COMP_POINT={len(line)} COMP_WORDS=({line}) COMP_CWORD={line.count(" ")}
        _gmproxy
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True, timeout=PROGRAM_TIMEOUT)
    assert done.stdout.split() == offered
