"""Memory to write results into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# (name, shape, dtype) -> a contiguous array to overwrite
Place: TypeAlias = Callable[[str, tuple[int, ...], Any], NDArray[Any]]


def new_array(name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Fresh memory, every time."""
    return np.empty(shape, dtype)


class Buffers:
    """The same memory again, as long as shape and dtype stay. Not for two threads at once."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def __call__(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = self._arrays[name] = np.empty(shape, dtype)
        return array
