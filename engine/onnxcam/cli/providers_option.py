"""The option `--providers` of the commands that run models."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from onnxcam.errors import ModelError
from onnxcam.session import Session, telling_part

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# 2026-01-31 12:00:00.123 [E:onnxruntime:Default, file.cc:2458 function] what happened
_LOGGED = re.compile(r"\[[EF]:[^\]]*\] *(.+)")


def add_providers_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--providers`; :func:`onnxcam.providers.parse_providers` reads it."""
    parser.add_argument(
        "--providers",
        metavar="NAME[,NAME]",
        help="onnxruntime execution providers, as cuda:device_id=1,cpu or as JSON",
    )


@contextmanager
def starting_providers(option: str | None) -> Iterator[None]:
    """While sessions start: what onnxruntime writes to stderr goes into the error, if there is one.

    Why a provider did not start onnxruntime tells nowhere else. Without an error the text is
    written to stderr after all. Without `--providers` nothing is done.
    """
    if option is None:
        yield
        return

    import tempfile

    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except ModelError as error:
            reason = _reason(_content(kept))
            if reason is None:
                raise
            raise ModelError(f"{error} (onnxruntime: {reason})") from error
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        os.write(2, _content(kept))


def describe_placement(session: Session) -> str | None:
    """A line on where the nodes run; None where all of them run on the CPU's own provider."""
    return None if session.on_cpu else f"{', '.join(session.providers)}; {session.placement}"


def placement_document(session: Session) -> dict[str, Any]:
    """The same for programs: `providers`, and `nodes` by provider and operator or null."""
    nodes = None if session.on_cpu else session.placement.nodes
    return {"providers": session.providers, "nodes": nodes}


def _content(file: Any) -> bytes:
    file.seek(0)
    content: bytes = file.read()
    return content


def _reason(logged: bytes) -> str | None:
    """The last error in onnxruntime's log."""
    lines = _COLOURS.sub("", logged.decode(errors="replace")).splitlines()
    found = [match[1] for match in map(_LOGGED.search, lines) if match]
    return telling_part(found[-1]) if found else None
