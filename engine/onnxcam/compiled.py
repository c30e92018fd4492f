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
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxcam.errors import MissingExtraError
from onnxcam.native.loader import Library, LibraryError
from onnxcam.native.table import TABLE, Kernel
from onnxcam.native.work_arrays import with_work_space

if TYPE_CHECKING:
    from onnxcam.native.prepared import Prepared

VARIABLE = "ONNXCAM_KERNELS"


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith("_"):  # Python itself asks for some of these
        raise AttributeError(f"module 'onnxcam.compiled' has no attribute {name!r}")
    library = _library()
    row = next((row for row in TABLE if row.name == name), None)
    function = library.function(row) if library and row else _jitted(name, row)
    globals()[name] = function
    return function


def origin() -> str:
    """Where the kernels come from: the path of the library, or "jit"."""
    library = _library()
    return str(library.path) if library else "jit"


def prepare(
    name: str, known: Mapping[str, Any], open: Mapping[str, Sequence[int]]
) -> Prepared | None:
    """Calls of a kernel whose arguments are known, but for some arrays of known shapes.

    None where the kernels do not come from the library.
    """
    library = _library()
    if library is None:
        return None
    return library.prepare(next(row for row in TABLE if row.name == name), known, open)


@functools.cache
def _library() -> Library | None:
    """The library; None where Numba is to compile the kernels."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "jit":
        return None
    if wanted not in ("", "library"):
        return Library(Path(wanted))
    try:
        return Library()
    except LibraryError as error:
        if wanted == "library":
            raise
        import importlib.util

        if importlib.util.find_spec("numba") is None:
            raise MissingExtraError(
                f"the kernels are not compiled: {error}, and numba is not installed; "
                "pip install 'onnxcam[jit]', or build the library: onnxcam native build"
            ) from error
        return None


def _jitted(name: str, row: Kernel | None) -> Callable[..., Any]:
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
    return found if row is None or not row.scratch else with_work_space(row, found)
