"""Files for an operator to begin with: the sample configuration, made from the settings table, and the systemd unit.

`gmproxy --print-sample-config` and `gmproxy --print-systemd-unit` print them, so that they are at hand however gmproxy was installed.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from gmproxy.config.settings import GROUPS, LISTS, SETTINGS, Setting

WIDTH = 100

HEAD = """\
# How gmproxy runs: gmproxy.conf(5) explains the form of this file, gmproxy(8) the program.
#
# A line that is commented out shows what holds without it, or an example where nothing does.
# Check the file with: gmproxy -c FILE -t
"""

#: What is set in the sample: one memcached on the same machine, as the package memcached of Debian runs it.
SET = {
    "server": "127.0.0.1:11211",
    "listen": "127.0.0.1",
    "port": "12000",
    "user": "gmproxy",
    "control": "/run/gmproxy/gmproxy.control",
    "admin": "127.0.0.1:8211",
}

#: Shown for a setting that is empty by default. Together they can be used.
EXAMPLES = {
    "backup": "127.0.0.1:11213",
    "unix_socket": "/run/gmproxy/gmproxy.sock",
    "unix_mode": "0660",
    "hash_tag": "{}",
    "group": "gmproxy",
    "log_file": "/var/log/gmproxy/gmproxy.log",
}


def sample_configuration() -> str:
    """The text of the file: under each group its settings, in the order of the settings table."""
    return "\n".join(_lines()) + "\n"


#: The unit of the Debian package: a link in the source tree, a copy in what is installed.
UNIT = Path(__file__).with_name("gmproxy.service")

#: The commands of gmproxy in it.
UNIT_COMMAND = re.compile(r"/usr/bin/(?=gmproxy(?:ctl)? )")


def systemd_unit(directory: str) -> str:
    """The text of the unit for commands that are in `directory`, an absolute path."""
    return UNIT_COMMAND.sub(lambda _: directory.rstrip("/") + "/", UNIT.read_text(encoding="utf-8"))


def _lines() -> Iterator[str]:
    yield from HEAD.splitlines()
    for group in GROUPS:
        yield from ("", "", f"# ---- {group}")
        for setting in SETTINGS.values():
            if setting.group == group:
                yield ""
                yield from _comment(setting)
                yield _line(setting)


def _comment(setting: Setting) -> list[str]:
    sentence = setting.sentence.replace("may be repeated", "the line may be repeated") if setting.name in LISTS else setting.sentence
    return textwrap.wrap(sentence, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _line(setting: Setting) -> str:
    if setting.name in SET:
        return f"{setting.name} = {SET[setting.name]}"
    return f"#{setting.name} = {setting.default or EXAMPLES.get(setting.name, '')}".rstrip()
