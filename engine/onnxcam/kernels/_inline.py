"""The parts of kernels: always compiled into the kernel that calls them.

Numba passes an array as seven arguments and returns a tuple through memory, and LLVM leaves such
a call in a loop as it is: the means of [2048, 49] took 8.5 us with calls, 6 us without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])


def part(function: _Function) -> _Function:
    """Compile as kernels are, without a cache of its own."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": False}
    return njit(forceinline=True, **options)(function)  # type: ignore[no-any-return]
