"""Settings from the environment: a variable GMPROXY_NAME for each row of the settings table."""

import re
from collections.abc import Mapping

from gmproxy.config.settings import SETTINGS
from gmproxy.config.settings_file import switch
from gmproxy.config.suggestions import did_you_mean
from gmproxy.config.values import yes_or_no
from gmproxy.errors import ConfigError

PREFIX = "GMPROXY_"

#: Variables that are not settings: the configuration file, the choice of the build, the hand-over at an upgrade, and parameters of the tests.
OTHERS = re.compile("GMPROXY_(CONFIG|PURE|BUILD|EXPECT_BUILD|HANDED_OVER|ARGUMENTS|TEST_[A-Z_]+)")

#: Variables that Kubernetes sets in each container of a namespace with a service named gmproxy. GMPROXY_PORT is a URL there, not a port.
LINKED = re.compile(r"GMPROXY(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
LINK = re.compile("(tcp|udp|sctp)://")


def read_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """{variable: value} of the settings in `environment`, checked, with the values of switches as ConfigArgParse expects them. Raises
    ConfigError for an invalid value, and for an unknown variable that begins with GMPROXY_."""
    found: dict[str, str] = {}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or OTHERS.fullmatch(variable) or LINKED.fullmatch(variable) or LINK.match(value):
            continue
        setting = SETTINGS.get(variable[len(PREFIX) :].lower())
        if setting is None or not variable.isupper():
            names = [PREFIX + name.upper() for name in (*SETTINGS, "config")]
            raise ConfigError(f"environment: there is no setting {variable}{did_you_mean(variable, names)}")
        try:
            checked = setting.parse(value)
        except ValueError as error:
            if not value:  # an empty variable counts as not set
                continue
            raise ConfigError(f"environment: {variable}: {error}") from None
        found[variable] = switch(checked) if isinstance(checked, bool) else value
    return found


def switched_off(environment: Mapping[str, str]) -> list[str]:
    """The names of the switches that are off in `environment`, which `read_environment` has returned."""
    return [
        name for name, setting in SETTINGS.items() if setting.parse is yes_or_no and environment.get(PREFIX + name.upper()) == switch(False)
    ]
