"""The sample configuration, made from the settings table, and the systemd unit.

`gmproxy --print-sample-config` and `gmproxy --print-systemd-unit` print them, so that an installation by pip has them too.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from gmproxy.config.settings import GROUPS, SETTINGS, UNITS, Setting

WIDTH = 100

HEAD = """\
# Configuration of gmproxy. gmproxy.conf(5) describes the format, gmproxy(8) the program.
#
# A setting that is commented out shows its default, or an example if it is unset by default.
# To check this file: gmproxy -c FILE -t
"""

#: The settings that are not commented out: one memcached on the same host, as Debian's package memcached runs it.
SET = {
    "server": "127.0.0.1:11211",
    "listen": "127.0.0.1",
    "port": "12000",
    "user": "gmproxy",
    "control": "/run/gmproxy/gmproxy.control",
    "admin": "127.0.0.1:8211",
}

#: Values shown for settings that are unset by default. All of them can be used together.
EXAMPLES = {
    "backup": "127.0.0.1:11213",
    "unix_socket": "/run/gmproxy/gmproxy.sock",
    "unix_mode": "0660",
    "hash_tag": "{}",
    "group": "gmproxy",
    "log_file": "/var/log/gmproxy/gmproxy.log",
    "journal_dir": "/var/lib/gmproxy",
}


def sample_configuration() -> str:
    """The text of the file: the settings of each group, in the order of the settings table."""
    return "\n".join(_lines()) + "\n"


#: The unit of the Debian package: a link in the source tree, a copy in an installation.
UNIT = Path(__file__).with_name("gmproxy.service")

#: The directory of gmproxy's commands in the unit.
UNIT_COMMAND = re.compile(r"/usr/bin/(?=gmproxy(?:ctl)? )")


def systemd_unit(directory: str) -> str:
    """The text of the unit, for an installation whose commands are in `directory`, an absolute path."""
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
    unit = UNITS.get(setting.metavar)
    description = f"{setting.description} ({unit})" if unit else setting.description
    return textwrap.wrap(description, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _line(setting: Setting) -> str:
    if setting.name in SET:
        return f"{setting.name} = {SET[setting.name]}"
    return f"#{setting.name} = {setting.default or EXAMPLES.get(setting.name, '')}".rstrip()
