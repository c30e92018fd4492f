"""Kernels compiled by Numba, called without their work arrays, as the library's functions are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from onnxcam.native.loader import size_lines
from onnxcam.native.table import Kernel


def with_work_space(kernel: Kernel, function: Callable[..., Any]) -> Callable[..., Any]:
    """``f(visible parameters)`` that gives `function` its work arrays too.

    Every thread keeps those of its last call, so that a stream of like pictures allocates none.
    """
    scope: dict[str, Any] = {"function": function, "local": threading.local(), "empty": np.empty}
    exec(_source(kernel), scope)  # made from our own table
    return scope[kernel.name]  # type: ignore[no-any-return]


def _source(kernel: Kernel) -> str:
    lines = [f"def {kernel.name}({', '.join(each.name for each in kernel.visible)}):"]
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
