"""Pool files in which pools have a role."""

from pathlib import Path
from typing import Any

import yaml
from faults.stage import OPTIONS
from support.servers import HOST, Proxy, free_port
from support.timing import milliseconds

#: The options of all pools, as keys of a pool. A server that failed is probed soon.
POOL_OPTIONS = {option.removeprefix("--").replace("-", "_"): int(value) for option, value in zip(OPTIONS[::2], OPTIONS[1::2])}
POOL_OPTIONS["server_retry_timeout"] = int(milliseconds(2))


def servers(*servers: Any) -> list[str]:
    """The key `servers` of a pool: objects with an `address`."""
    return [f"{server.address}:1" for server in servers]


def serve(folder: Path, pools: dict[str, dict[str, Any]], *options: object) -> Proxy:
    """A proxy that serves the pool `main` of `pools`, {name: {key: value}}. The others have roles."""
    port = free_port()
    file = folder / "nutcracker.yml"
    listens = {"listen": f"{HOST}:{port}"}
    text = yaml.safe_dump(
        {name: {**(listens if name == "main" else {}), **POOL_OPTIONS, **keys} for name, keys in pools.items()}, sort_keys=False
    )
    file.write_text(text)
    return Proxy("--pools", file, *options, port=port)
