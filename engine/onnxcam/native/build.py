"""Make the library and its header for one target."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnxcam._version import __version__
from onnxcam.errors import MissingExtraError, OnnxcamError
from onnxcam.files import atomic
from onnxcam.native.build_id import build_id
from onnxcam.native.dispatch import dispatch_source
from onnxcam.native.header import header
from onnxcam.native.link import link
from onnxcam.native.targets import Target

HEADER = "onnxcam.h"
# Numba's settings in the process that generates code. At its usual level of optimisation the
# code already has this machine's vector width before LLVM is asked for another's.
_ENVIRONMENT = {
    "NUMBA_OPT": "0",
    "NUMBA_DISABLE_INTEL_SVML": "1",
    "NUMBA_CPU_NAME": "generic",
    "NUMBA_CPU_FEATURES": "",
    "NUMBA_BOUNDSCHECK": "0",
    "NUMBA_DISABLE_JIT": "0",
}


def build(target: Target, folder: Path) -> tuple[Path, Path]:
    """Write the library and `onnxcam.h` into `folder`, and return their paths.

    Raises:
        MissingExtraError: numba or ziglang is not installed.
        OnnxcamError: a kernel can't be compiled ahead of time, or the linker refuses.
        OSError: the folder can't be written.
    """
    return build_several({target: folder})[target]


def build_several(folders: Mapping[Target, Path]) -> dict[Target, tuple[Path, Path]]:
    """`build` for several targets; Numba compiles the kernels once, which is most of the time.

    Raises:
        MissingExtraError, OnnxcamError, OSError: as `build`.
    """
    for module in ("numba", "ziglang"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(
                f"building the library needs {module}: pip install 'onnxcam[native]'"
            )
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="onnxcam-") as name:
        work = Path(name)
        _generate_code(list(folders), work)
        return {target: _linked(target, work / target.name, folders[target]) for target in folders}


def _linked(target: Target, work: Path, folder: Path) -> tuple[Path, Path]:
    (work / HEADER).write_text(header(), "utf-8")
    source = work / "dispatch.c"
    source.write_text(dispatch_source(target, __version__, build_id()), "utf-8")
    library = work / target.library
    link(target, sorted(work.glob("*.o")), source, library)
    return _put(library, folder), _put(work / HEADER, folder)


def _generate_code(targets: Sequence[Target], work: Path) -> None:
    """Object files of every target into a folder of its name in `work`."""
    environment = {**os.environ, **_ENVIRONMENT, "NUMBA_CACHE_DIR": str(work / "numba")}
    # The package being built is not installed yet, and another version may be. Not by PYTHONPATH:
    # pip's isolated builds drop from it what an earlier editable install has put onto the path.
    start = (
        "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
        "runpy.run_module('onnxcam.native.codegen', run_name='__main__', alter_sys=True)"
    )
    engine = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-W", "ignore", "-c", start, str(engine), str(work)]
    command += [target.name for target in targets]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise OnnxcamError(f"generating code failed: {done.stderr.strip()[-2000:]}")


def _put(source: Path, folder: Path) -> Path:
    """Copy into the folder, whole or not at all (a process may have the old file loaded)."""
    target = folder / source.name
    with atomic(target) as stream:
        stream.write(source.read_bytes())
    return target
