"""Point labels: the text by which a client library knows a server when it places it on its ring.

A label format is a name in `LABELS`.  A server that was given a name is known by that name in every format, so an
operator can keep the old text whatever the address is now.
"""

from collections.abc import Mapping
from ipaddress import ip_address

from gmproxy.placement.server_spec import DEFAULT_PORT, Server

#: {host name: address}
Hosts = Mapping[str, str]


def _full(server: Server, hosts: Hosts) -> str:
    return server.host if server.unix_path else f"{server.host}:{server.port}"


def _short(server: Server, hosts: Hosts) -> str:
    return _shorten(server.host, server.port)


def _shorten(host: str, port: int) -> str:
    return host if port == DEFAULT_PORT else f"{host}:{port}"


def _twemproxy(server: Server, hosts: Hosts) -> str:
    # nutcracker cuts "path:weight" behind the colon.
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
            f"server {server.label!r}: spymemcached hashes the address of a host name too; give it as hosts: {server.host}=ADDRESS"
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


# Name -> (sentence, function of a Server and of the known host names {name: address}).
LABELS = {
    "full": ("host:port", _full),
    "short": ("host:port, but host alone on port 11211 (libmemcached)", _short),
    "twemproxy": ("as short; a unix socket is path and colon", _twemproxy),
    "dash": ("host-port (magent)", _dash),
    "slash": ("/host:port (libmemcached's KETAMA_SPY)", _slash),
    "zero": ("host, a zero byte, port (Cache::Memcached::Fast)", _zero),
    "spymemcached": ("address:port, or name/address:port for a host name", _spymemcached),
    "spymemcached-short": ("as short, with the host name an address resolves back to", _spymemcached_short),
}


def point_label(server: Server, label_format: str, hosts: Hosts) -> str:
    """The label of ``server`` in the format of that name; ``hosts`` maps host names to addresses."""
    if server.name:
        return server.name
    return LABELS[label_format][1](server, hosts)


def parse_hosts(text: str) -> dict[str, str]:
    """``name=address, name=address`` as a dict; ValueError quotes an item that is not of this form."""
    hosts = {}
    for item in filter(None, (item.strip() for item in text.replace(";", ",").split(","))):
        name, _, address = (part.strip() for part in item.partition("="))
        if not name or not _is_address(address):
            raise ValueError(f"bad host {item!r}: expected name=address")
        hosts[name] = address
    return hosts
