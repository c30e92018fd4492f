"""Calls of one library function with all arguments but some arrays known in advance.

Checking and converting a call's arguments takes Python longer than painting a small picture takes
the kernel, above all when other work has emptied the processor's caches in between. Here the block
of arguments is made once, and a call only puts addresses into it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from onnxcam.native.interface import functions, room, row_bytes
from onnxcam.native.loader import FORMATS, work_space
from onnxcam.native.table import SIZE_IN_BYTES, TABLE, Array, Kernel


class Prepared:
    """A kernel of the library, and its arguments but for some arrays.

    Args:
        call: the library's function that calls a kernel by its number.
        kernel: the row of the table.
        known: the visible parameters that stay, by name: numbers, and arrays, contiguous and of the
            row's dtypes, which must not move.
        open: the shapes of the others, by name in the order of the parameters.
    """

    def __init__(
        self,
        call: Callable[[int, bytes], int],
        kernel: Kernel,
        known: Mapping[str, Any],
        open: Mapping[str, Sequence[int]],
    ) -> None:
        shapes = {name: np.shape(each) for name, each in known.items()} | dict(open)
        sizes: dict[str, Any] = {}
        for array in kernel.arrays:
            for axis, side in enumerate(array.shape):
                if side in kernel.size_names:
                    sizes.setdefault(str(side), shapes[array.name][axis])
        self._call, self._number = call, TABLE.index(kernel)
        self._kept = dict(known)  # so that their arrays live as long
        self._room = _value(room(kernel), sizes) if kernel.scratch else 0
        layout, fixed = ["="], [b""]
        for each in next(functions(kernel)).arguments:
            if each.name in open or each.kind == "scratch":
                layout.append(f"{len(fixed[-1])}s" + FORMATS["address"])
                fixed.append(b"")
                continue
            if each.kind == "room":
                value: Any = self._room
            elif each.kind == "size":
                value = sizes[each.name]
            elif each.kind == "stride":
                assert isinstance(each.source, Array)
                value = _value(row_bytes(each.source, SIZE_IN_BYTES[each.source.dtype]), sizes)
            else:
                value = known[each.name]
                if each.kind == "pointer":
                    value = value.ctypes.data
            fixed[-1] += struct.pack("=" + FORMATS[each.packed], value)
        layout.append(f"{len(fixed[-1])}s")
        self._pack = struct.Struct("".join(layout)).pack
        # Bytes, and places for addresses between them.
        self._given: list[Any] = [0] * (2 * len(fixed) - 1)
        self._given[::2] = fixed

    def __call__(self, *addresses: int) -> int:
        """Call it with the addresses of the open arrays, in order; returns the library's code.

        They are contiguous arrays of the shapes given before, which nothing here checks.
        """
        given = self._given.copy()
        if self._room:
            addresses = (*addresses, work_space(self._room).address)
        given[1::2] = addresses
        return self._call(self._number, self._pack(*given))


def _value(expression: str, sizes: Mapping[str, int]) -> int:
    """An expression of the table, made of sizes."""
    return int(eval(expression, {"__builtins__": {}}, dict(sizes)))  # from our own table
