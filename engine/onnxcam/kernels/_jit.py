"""How every kernel is compiled.

`fastmath` stays off so that all targets give identical results; `error_model="numpy"` makes a
division by zero give inf instead of a Python exception; `nogil` lets threads run side by side.

Numba's cache on disk notices when a kernel's own file has changed, not when a kernel that it
calls has: after editing one, remove `__pycache__`. (The tests use a fresh cache.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])


def kernel(function: _Function) -> _Function:
    """Compile on first call, and keep the machine code on disk where that is possible."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": False}
    try:
        compiled = njit(cache=True, **options)(function)
    except RuntimeError:  # no folder for the cache can be written: compile in every process
        compiled = njit(**options)(function)
    return compiled  # type: ignore[no-any-return]
