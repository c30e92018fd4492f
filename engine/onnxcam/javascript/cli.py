"""`onnxcam javascript`: the npm package, for Node and for one's own pages."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from onnxcam.errors import InputError
from onnxcam.javascript.package import write_package


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `onnxcam javascript`."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        type=Path,
        required=True,
        help="the package's folder: new, empty, or that of an earlier version",
    )


def run(args: argparse.Namespace) -> int:
    """Write the package.

    Raises:
        InputError: the folder holds something else.
    """
    folder: Path = args.output
    if not _is_ours(folder):
        raise InputError(f"'{folder}': is neither empty nor the npm package; give another folder")
    write_package(folder)
    print(f"{folder}: the npm package; use it with")
    # Without a leading ./ npm would take the folder's name for a package of the registry.
    place = folder if folder.is_absolute() else f"./{folder.as_posix()}"
    print(f"  npm install {place} onnxruntime-node")
    return 0


def _is_ours(folder: Path) -> bool:
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True
    try:
        return bool(json.loads((folder / "package.json").read_bytes())["name"] == "onnxcam")
    except (OSError, ValueError, KeyError, TypeError):
        return False
