"""Labels of servers: the text that a client library hashes to place a server on its hash ring.

A label format is a name in `LABELS`. In every format, the label of a server that has a name is this name: so the address of a server can
change without moving keys.
"""

from collections.abc import Mapping
from ipaddress import ip_address

from gmproxy.placement.server_spec import DEFAULT_PORT, Server

#: {host name: IP address}
Hosts = Mapping[str, str]


def _full(server: Server, hosts: Hosts) -> str:
    return server.host if server.unix_path else f"{server.host}:{server.port}"


def _short(server: Server, hosts: Hosts) -> str:
    return _shorten(server.host, server.port)


def _shorten(host: str, port: int) -> str:
    return host if port == DEFAULT_PORT else f"{host}:{port}"


def _twemproxy(server: Server, hosts: Hosts) -> str:
    # The label of twemproxy is "path:weight" cut after the colon.
    return f"{server.host}:" if server.unix_path else _short(server, hosts)


def _dash(server: Server, hosts: Hosts) -> str:
    return f"{server.host}-{server.port}"


def _slash(server: Server, hosts: Hosts) -> str:
    return f"/{server.host}:{server.port}"


def _zero(server: Server, hosts: Hosts) -> str:
    return f"{server.host}\0{server.port}"


def _spymemcached(server: Server, hosts: Hosts) -> str:
    if _is_address(server.host) or server.unix_path:
        return _full(server, hosts)
    if server.host not in hosts:
        raise ValueError(
            f"server {server.label!r}: spymemcached also hashes the address of a host name: set hosts to {server.host}=ADDRESS"
        )
    return f"{server.host}/{hosts[server.host]}:{server.port}"


def _spymemcached_short(server: Server, hosts: Hosts) -> str:
    for name, address in hosts.items():
        if address == server.host:
            return _shorten(name, server.port)
    return _short(server, hosts)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


#: Name of a label format -> (description, function that returns the label of a Server).
LABELS = {
    "full": ("host:port", _full),
    "short": ("host:port, but host alone on port 11211 (libmemcached)", _short),
    "twemproxy": ("as short, but path and colon for a unix socket", _twemproxy),
    "dash": ("host-port (magent)", _dash),
    "slash": ("/host:port (libmemcached's KETAMA_SPY)", _slash),
    "zero": ("host, a zero byte, port (Cache::Memcached::Fast)", _zero),
    "spymemcached": ("address:port, or name/address:port for a host name", _spymemcached),
    "spymemcached-short": ("as short, with the host name that has the address in `hosts`", _spymemcached_short),
}


def point_label(server: Server, label_format: str, hosts: Hosts) -> str:
    """The label of `server` in `label_format`, a name in LABELS. Raises ValueError if the format needs an address that `hosts` lacks."""
    if server.name:
        return server.name
    return LABELS[label_format][1](server, hosts)


def parse_hosts(text: str) -> dict[str, str]:
    """{host name: address} from `name=address, name=address`. Raises ValueError, which quotes an item that is not of this form."""
    hosts = {}
    for item in filter(None, (item.strip() for item in text.replace(";", ",").split(","))):
        name, _, address = (part.strip() for part in item.partition("="))
        if not name or not _is_address(address):
            raise ValueError(f"bad host {item!r}: expected name=address")
        hosts[name] = address
    return hosts
