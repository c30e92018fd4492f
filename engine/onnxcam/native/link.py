"""From object files to a library, with Zig's linker (the PyPI package `ziglang`)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from onnxcam.errors import MissingExtraError, OnnxcamError
from onnxcam.native.interface import PREFIX, functions
from onnxcam.native.table import TABLE
from onnxcam.native.targets import Target

_CACHES = ("ZIG_LOCAL_CACHE_DIR", "ZIG_GLOBAL_CACHE_DIR")
_OTHERS = ("error_text", "version", "build_id", "variant", "set_variant", "call")


def link(target: Target, objects: Sequence[Path], dispatch: Path, library: Path) -> None:
    """Compile `dispatch` and link it with the object files.

    Raises:
        MissingExtraError: ziglang is not installed.
        OnnxcamError: the linker refuses; the message is its own.
    """
    command = ["cc", "-target", target.linker, "-O2", "-s", "-nostdlib"]
    command += [
        "-Wall",
        "-Werror",
        "-fno-builtin",
        f"-I{dispatch.parent}",
        str(dispatch),
        *map(str, objects),
    ]
    command += ["-o", str(library)]
    if target.name == "wasm32":
        command += ["-Wl,--no-entry", "-Wl,--export=__heap_base"]
        command += [f"-Wl,--export={name}" for name in public_names()]
    else:
        command += ["-shared"]
    _zig(command, cache=dispatch.parent)


def public_names() -> list[str]:
    """Every function that the library exports."""
    own = [each.name for kernel in TABLE for each in functions(kernel)]
    return [*(PREFIX + name for name in _OTHERS), *own]


def _zig(arguments: Sequence[str], cache: Path) -> None:
    command = [sys.executable, "-m", "ziglang", *arguments]
    # A build in a sandbox may have no home that it can write to.
    caches = {name: os.environ.get(name, str(cache)) for name in _CACHES}
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **caches}, check=False
    )
    if "No module named" in done.stderr and "ziglang" in done.stderr:
        raise MissingExtraError("linking needs ziglang: pip install 'onnxcam[native]'")
    if done.returncode != 0:
        raise OnnxcamError(f"the linker failed ({done.returncode}): {done.stderr.strip()[-2000:]}")
