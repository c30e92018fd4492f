"""Kernels compiled by Numba, called as the library's functions are: without their work arrays,
and with a check of the arrays that have to be finite."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.errors import InputError
from onnxcam.native.codes import FINITE
from onnxcam.native.loader import size_lines
from onnxcam.native.table import Kernel


def with_work_space(kernel: Kernel, function: Callable[..., Any]) -> Callable[..., Any]:
    """``f(visible parameters)`` that gives `function` its work arrays too.

    It raises InputError where an array that has to be finite is not, before anything is written.
    Every thread keeps those of its last call, so that a stream of like pictures allocates none.
    """
    scope: dict[str, Any] = {"function": function, "local": threading.local(), "empty": np.empty}
    scope["check_finite"] = _check_finite
    exec(_source(kernel), scope)  # made from our own table
    return scope[kernel.name]  # type: ignore[no-any-return]


def _check_finite(name: str, array: NDArray[Any]) -> None:
    if not np.isfinite(array).all():
        raise InputError(f"{name}: {FINITE.text}")


def _source(kernel: Kernel) -> str:
    lines = [f"def {kernel.name}({', '.join(each.name for each in kernel.visible)}):"]
    lines += [
        f"    check_finite({kernel.name!r}, {array.name})"
        for array in kernel.arrays
        if array.finite
    ]
    lines += size_lines(kernel)
    sizes = "".join(f"{name}, " for name in kernel.size_names)
    lines.append(f"    if getattr(local, 'sizes', None) != ({sizes}):")
    made = []
    for array in kernel.scratch:
        shape = "".join(f"{side}, " for side in array.shape)
        made.append(f"empty(({shape}), {array.dtype!r}), ")
    lines.append(f"        local.arrays, local.sizes = ({''.join(made)}), ({sizes})")
    lines.append(f"    {''.join(f'{array.name}, ' for array in kernel.scratch)} = local.arrays")
    lines.append(f"    function({', '.join(each.name for each in kernel.parameters)})")
    return "\n".join(lines) + "\n"
