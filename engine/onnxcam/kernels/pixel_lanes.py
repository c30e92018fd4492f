"""Eight int32 side by side, for sums over pixels of three interleaved colours.

Eight pixels are 24 bytes, three groups of eight lanes; whatever colour a lane has, it has for all
pixels of a row. The exact product of a byte and a weight of 23 bits needs 32, which LLVM does not
find a fast form for by itself: rows of 4000 pixels to 340 take 10 ms for 3000 rows, 44 as a loop
over three sums, and 37 with 24 lanes in one vector. (Pillow takes 35, and 11 to copy the picture.)
As in `float_lanes`, each operation is also a NumPy function, and integers have the same sum in
whatever order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic, overload, register_model

WIDTH = 8
BITS = 22  # of a weight's fraction: Pillow's
_I32 = ir.IntType(32)
_VECTOR = ir.VectorType(_I32, WIDTH)
_BYTES = ir.VectorType(ir.IntType(8), WIDTH)
_FOUR = ir.VectorType(_I32, 4)
_FOUR_BYTES = ir.VectorType(ir.IntType(8), 4)


class _Lanes(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="Lanes8xInt32")


class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


_LANES = _Lanes()
register_model(_Lanes)(_LanesModel)


def zeros() -> Any:
    """Eight zeros."""
    return np.zeros(WIDTH, np.int32)


def multiply_add(sums: Any, line: Any, p: int, weights: Any, i: int) -> Any:
    """``sums + line[p : p + 8] * weights[i : i + 8]``; uint8 and int32, contiguous."""
    return sums + line[p : p + WIDTH].astype(np.int32) * weights[i : i + WIDTH]


def store_pixel(first: Any, second: Any, third: Any, out: Any, p: int) -> None:
    """Sum 24 lanes by colour, round, clip; three bytes to ``out[p : p + 3]``, any to the fourth."""
    colors = np.concatenate([first, second, third]).reshape(-1, 3).sum(axis=0, dtype=np.int32)
    rounded = (colors + np.int32(1 << (BITS - 1))) >> BITS
    out[p : p + 3] = np.minimum(np.maximum(rounded, 0), 255)


def _address(context: Any, builder: Any, kind: Any, array: Any, p: Any, vector: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [p]), vector.as_pointer())


def _zeros(_typing: Any) -> Any:
    return _LANES(), lambda context, builder, signature, args: ir.Constant(_VECTOR, [0] * WIDTH)


def _multiply_add(_typing: Any, sums: Any, line: Any, p: Any, weights: Any, i: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums, line, p, weights, i = args
        at = _address(context, builder, signature.args[1], line, p, _BYTES)
        by = _address(context, builder, signature.args[3], weights, i, _VECTOR)
        pixels = builder.zext(builder.load(at, align=1), _VECTOR)
        return builder.add(sums, builder.mul(pixels, builder.load(by, align=4)))

    return _LANES(_LANES, line, types.intp, weights, types.intp), code


def _store_pixel(_typing: Any, first: Any, second: Any, third: Any, out: Any, p: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def picked(left: Any, right: Any, *places: int) -> Any:
            mask = ir.Constant(ir.VectorType(_I32, len(places)), list(places))
            return builder.shuffle_vector(left, right, mask)

        def low(lanes: Any) -> Any:
            return picked(lanes, lanes, 0, 1, 2, 3)

        def high(lanes: Any) -> Any:
            return picked(lanes, lanes, 4, 5, 6, 7)

        def constant(value: int) -> Any:
            return ir.Constant(_FOUR, [value] * 4)

        first, second, third, out, p = args
        # The colours repeat after twelve lanes: RGBR, GBRG, BRGB.
        rgbr = builder.add(low(first), high(second))
        gbrg = builder.add(high(first), low(third))
        brgb = builder.add(low(second), high(third))
        sums = builder.add(rgbr, picked(gbrg, gbrg, 2, 0, 1, 3))
        sums = builder.add(sums, picked(brgb, brgb, 1, 2, 0, 3))
        fourth = picked(picked(rgbr, gbrg, 3, 7, 3, 7), brgb, 0, 1, 7, 7)
        sums = builder.add(builder.add(sums, fourth), constant(1 << (BITS - 1)))
        value = builder.ashr(sums, constant(BITS))
        for limit, beyond in ((0, "<"), (255, ">")):
            is_beyond = builder.icmp_signed(beyond, value, constant(limit))
            value = builder.select(is_beyond, constant(limit), value)
        to = _address(context, builder, signature.args[3], out, p, _FOUR_BYTES)
        builder.store(builder.trunc(value, _FOUR_BYTES), to, align=1)
        return context.get_dummy_value()

    return types.void(_LANES, _LANES, _LANES, out, types.intp), code


_made, _added, _stored = map(intrinsic, (_zeros, _multiply_add, _store_pixel))
overload(zeros)(lambda: lambda: _made())
overload(multiply_add)(
    lambda sums, line, p, weights, i: (
        lambda sums, line, p, weights, i: _added(sums, line, p, weights, i)
    )
)
overload(store_pixel)(
    lambda first, second, third, out, p: (
        lambda first, second, third, out, p: _stored(first, second, third, out, p)
    )
)
