"""The door between the two builds of the hot modules.

A hot module is one `.py` file. It may also be compiled, from that same file and a `.pxd` that only adds
types, to an extension in `gmproxy._c`. Everybody gets hot modules through `pick`, so that one process never mixes
the two builds: their classes know each other's layout.

    GMPROXY_PURE=1      run the `.py` files even where the extensions are installed
"""

import importlib
import importlib.util
import os

#: Hot module -> the `.py` it is compiled from. setup.py compiles exactly these.
HOT_MODULES = {
    "texthash": "gmproxy.texthash",
    "hashing": "gmproxy.hashing",
    "ring": "gmproxy.ring",
    "message": "gmproxy.protocol.message",
    "meta": "gmproxy.protocol.meta",
    "text": "gmproxy.protocol.text",
    "binary_answers": "gmproxy.protocol.binary_answers",
    "binary": "gmproxy.protocol.binary",
    "reply": "gmproxy.protocol.reply",
    "in_binary": "gmproxy.protocol.in_binary",
    "binary_link": "gmproxy.protocol.binary_link",
    "meter": "gmproxy.meter",
    "link": "gmproxy.link",
    "backend": "gmproxy.backend",
    "copies": "gmproxy.copies",
    "refill": "gmproxy.refill",
    "gather": "gmproxy.gather",
    "router": "gmproxy.router",
    "session": "gmproxy.session",
}

#: Hot modules that are written twice, in Python and in `gmproxy/_c/NAME.pyx`: system calls, and looking at and copying bytes.
TWIN_MODULES = {
    "stream": "gmproxy.protocol.stream",
    "retrieval": "gmproxy.protocol.retrieval",
    "packing": "gmproxy.protocol.packing",
}

PURE_ASKED = os.environ.get("GMPROXY_PURE", "") not in ("", "0")


def _is_built(name):
    return importlib.util.find_spec(f"gmproxy._c.{name}") is not None


#: True if this process runs the extensions. All or none: a half-built package counts as pure.
COMPILED = not PURE_ASKED and all(map(_is_built, (*HOT_MODULES, *TWIN_MODULES)))

BUILD = "compiled" if COMPILED else "pure"


def pick(name):
    """The module `name` (a key of the tables above) in the build that this process runs."""
    if COMPILED:
        return importlib.import_module(f"gmproxy._c.{name}")
    return importlib.import_module((HOT_MODULES | TWIN_MODULES)[name])
