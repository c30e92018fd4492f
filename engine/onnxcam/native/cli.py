"""`onnxcam native`: the kernels as a library for other languages and machines."""

from __future__ import annotations

import argparse
from pathlib import Path

from onnxcam.errors import OnnxcamError
from onnxcam.native.targets import TARGETS, find_target, host_target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `onnxcam native`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="write the library and onnxcam.h")
    names = ", ".join(
        f"{row.name}{'' if row.tried else ' (never run)'}" for row in TARGETS.values()
    )
    build.add_argument("--target", metavar="NAME", help=f"{names}; by default this machine")
    build.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        type=Path,
        help="where to; by default into the package itself, for the engine",
    )
    actions.add_parser("info", help="say where the engine's kernels come from")


def run(args: argparse.Namespace) -> int:
    """Build the library, or say which one is in use."""
    return _build(args.target, args.output) if args.action == "build" else _info()


def _build(name: str | None, folder: Path | None) -> int:
    from onnxcam.native.build import build
    from onnxcam.native.loader import INSTALLED

    target = find_target(name)
    if folder is None and target != host_target():
        raise OnnxcamError(f"the engine here can't use a library for {target.name}: give -o DIR")
    for path in build(target, folder or INSTALLED.parent):
        print(path)
    if not target.tried:
        print("This library was linked, but never run by our tests: there is no such machine here.")
    return 0


def _info() -> int:
    from onnxcam import compiled
    from onnxcam.native.loader import Library

    origin = compiled.origin()
    if origin == "jit":
        print("kernels: compiled by Numba at run time")
        return 0
    library = Library(Path(origin))
    print(f"kernels: {origin}")
    print(f"version {library.version}, variant {library.variant} (0 is the plainest)")
    return 0
