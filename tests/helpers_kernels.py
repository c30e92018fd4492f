"""Kernels as plain Python."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from numba.core.dispatcher import Dispatcher


def as_python(kernel: Any) -> Callable[..., Any]:
    """A kernel without Numba, and the kernels and parts it calls too (`py_func` leaves those)."""
    function = kernel.py_func
    scope = dict(function.__globals__)
    for name in function.__code__.co_names:
        if isinstance(scope.get(name), Dispatcher):
            scope[name] = as_python(scope[name])
    return FunctionType(function.__code__, scope, function.__name__, function.__defaults__)
