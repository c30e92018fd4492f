"""Which table and which sources a library was made from."""

from __future__ import annotations

import zlib
from pathlib import Path

from onnxcam.native.table import TABLE

_PACKAGE = Path(__file__).parent.parent
# The modules of this package that decide what is in a library.
_COMPILING = ("arrays", "codegen", "codes", "dispatch", "entries", "interface", "link", "targets")


def interface_id() -> str:
    """Changes with the table: a library with another one must not be called."""
    return f"{zlib.crc32(repr(TABLE).encode()):08x}"


def sources_id() -> str:
    """Changes with the kernels and with what compiles them."""
    paths = sorted((_PACKAGE / "kernels").glob("*.py"))
    paths += [_PACKAGE / "native" / f"{name}.py" for name in _COMPILING]
    found = 0
    for path in paths:
        found = zlib.crc32(path.name.encode() + path.read_bytes(), found)
    return f"{found:08x}"


def in_checkout() -> bool:
    """Whether the sources may have been edited since the library was built."""
    return (_PACKAGE.parent.parent / "hatch_build.py").exists()


def build_id() -> str:
    """What `onnxcam_build_id` of a library made now says: interface, then sources."""
    return f"{interface_id()}-{sources_id()}"
