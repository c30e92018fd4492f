"""The kernels, compiled: from the library `libonnxcam`, or by Numba where there is none.

``from onnxcam import compiled`` and ``compiled.gray_of(picture, backwards, out)``: names and
arguments are those of :mod:`onnxcam.kernels` (save for the work space, which each thread has here
for its own), results the same bit for bit. Which of the two it is is decided when the first kernel
is asked for. The environment variable `ONNXCAM_KERNELS` decides
otherwise: "library" (an error where there is none), "jit" (Numba), or the path of a library.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onnxcam.errors import MissingExtraError
from onnxcam.native.loader import INSTALLED, LibraryError, load
from onnxcam.native.table import TABLE
from onnxcam.native.work_arrays import with_work_space

VARIABLE = "ONNXCAM_KERNELS"


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith("_"):  # Python itself asks for some of these
        raise AttributeError(f"module 'onnxcam.compiled' has no attribute {name!r}")
    function = _library().get(name) or _jitted(name)
    globals()[name] = function
    return function


@functools.cache
def origin() -> str:
    """Where the kernels come from: the path of the library, or "jit"."""
    wanted = os.environ.get(VARIABLE, "")
    path = INSTALLED if wanted in ("", "library") else Path(wanted)
    return str(path) if _library() else "jit"


@functools.cache
def _library() -> Mapping[str, Callable[..., Any]]:
    """The library's kernels; empty where Numba is to compile them."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "jit":
        return {}
    if wanted not in ("", "library"):
        return load(Path(wanted))
    try:
        return load()
    except LibraryError as error:
        if wanted == "library":
            raise
        if importlib.util.find_spec("numba") is None:
            raise MissingExtraError(
                f"the kernels are not compiled: {error}, and numba is not installed; "
                "pip install 'onnxcam[jit]', or build the library: onnxcam native build"
            ) from error
        return {}


def _jitted(name: str) -> Callable[..., Any]:
    try:
        kernels = importlib.import_module("onnxcam.kernels")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "numba":
            raise
        raise MissingExtraError(
            f"kernel '{name}' needs numba: pip install 'onnxcam[jit]'"
        ) from error
    found = getattr(kernels, name, None)
    if found is None:
        raise AttributeError(f"onnxcam has no kernel {name!r}")
    row = next((row for row in TABLE if row.name == name), None)
    return found if row is None or not row.scratch else with_work_space(row, found)
