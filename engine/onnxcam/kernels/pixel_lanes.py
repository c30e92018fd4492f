"""Four pixels of three interleaved colours at once, for the exact sums of Pillow's resize.

A byte times a weight of 23 bits needs 32, and processors multiply 32 bits slowly. So a weight comes
as two halves of 16 bits, and bytes in pairs of one colour: x86 multiplies and adds such pairs in
one instruction (pmaddwd; of WebAssembly's, `i32x4.dot_i16x8_s`, see `instructions`).
640x480 to 224x224 by way of 341x256: rows of three colours 0.19 ms on a Zen 3, 0.34 with 32-bit
products of eight pixels at a time, half of whose weights were zero. As in `float_lanes`, each
operation is also a NumPy function, and integers have the same sum in whatever order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic, overload, register_model

from onnxcam.kernels import instructions

BITS = 22  # of a weight's fraction: Pillow's
HALF_BITS = 11  # of them in the lower of its halves
PIXELS = 4
PAIRED = 16  # numbers of four pixels in pairs: three colours, and a fourth that is zero
_I8, _I16, _I32 = (ir.IntType(bits) for bits in (8, 16, 32))
_SUMS = ir.VectorType(_I32, PAIRED // 2)
_PAIRS = ir.VectorType(_I16, PAIRED)
_FOUR = ir.VectorType(_I32, 4)
READ = 16  # bytes that `four_pixels` reads, of which it uses twelve
# Which of the bytes stands where, as the lower half of 16 bits; None is a zero.
_ORDER = (0, 3, 1, 4, 2, 5, None, None, 6, 9, 7, 10, 8, 11, None, None)


class _PairsType(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="Lanes16xInt16")


class _SumsType(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="Lanes8xInt32")


class _PairsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _PAIRS)


class _SumsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _SUMS)


_pairs, _sums = _PairsType(), _SumsType()
register_model(_PairsType)(_PairsModel)
register_model(_SumsType)(_SumsModel)


def zeros() -> Any:
    """Eight zeros, int32."""
    return np.zeros(PAIRED // 2, np.int32)


def halves() -> Any:
    """Half a level, in units of 2^-22, in the first four of eight."""
    return np.array([1 << (BITS - 1)] * 4 + [0] * 4, np.int32)


def four_pixels(line: Any, p: int) -> Any:
    """``line[p : p + 12]`` of uint8 as int16: r0 r1 g0 g1 b0 b1 0 0, and so pixels 2 and 3.

    Four bytes more are read (and not used), or the processor would need two loads and a shuffle.
    """
    found = line[p : p + READ].astype(np.int16)
    return np.array([0 if at is None else found[at] for at in _ORDER], np.int16)


def add_pairs(sums: Any, pixels: Any, weights: Any, i: int) -> Any:
    """Add ``pixels * weights[i : i + 16]``, int16, two products to each of the eight sums."""
    products = pixels.astype(np.int32) * weights[i : i + PAIRED]
    return sums + products[::2] + products[1::2]


def store_pixel(high: Any, low: Any, out: Any, p: int) -> None:
    """``2^11 high + low``, its two fours added, without fraction and clipped: ``out[p : p + 3]``.

    A zero goes to the fourth byte.
    """
    sums = (high << np.int32(HALF_BITS)) + low
    whole = (sums[:4] + sums[4:]) >> np.int32(BITS)
    out[p : p + 4] = np.minimum(np.maximum(whole, 0), 255)


def _address(context: Any, builder: Any, kind: Any, array: Any, p: Any, vector: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [p]), vector.as_pointer())


def _picked(builder: Any, left: Any, right: Any, places: Any) -> Any:
    mask = ir.Constant(ir.VectorType(_I32, len(places)), list(places))
    return builder.shuffle_vector(left, right, mask)


def _constant(values: Any) -> Any:
    return _sums(), lambda context, builder, signature, args: ir.Constant(_SUMS, values)


def _zeros(_typing: Any) -> Any:
    return _constant([0] * 8)


def _halves(_typing: Any) -> Any:
    return _constant([1 << (BITS - 1)] * 4 + [0] * 4)


def _four_pixels(_typing: Any, line: Any, p: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(_I8, READ)
        found = builder.load(
            _address(context, builder, signature.args[0], args[0], args[1], vector), align=1
        )
        places = [READ if at is None else at for at in _ORDER]
        mixed = _picked(
            builder,
            found,
            ir.Constant(vector, [0] * READ),
            [
                each
                for at in places
                for each in (at, READ)  # the upper half of each is zero
            ],
        )
        return builder.bitcast(mixed, _PAIRS)

    return _pairs(line, types.intp), code


def _pair_products(builder: Any, x: Any, y: Any) -> Any:
    """Two vectors multiplied, and neighbouring products added."""
    wide = ir.VectorType(_I32, PAIRED)
    products = builder.mul(*(builder.sext(each, wide) for each in (x, y)))
    even, odd = (_picked(builder, products, products, range(first, PAIRED, 2)) for first in (0, 1))
    return builder.add(even, odd)


def _add_pairs(_typing: Any, sums: Any, pixels: Any, weights: Any, i: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums, pixels, weights, i = args
        at = _address(context, builder, signature.args[2], weights, i, _PAIRS)
        by = builder.load(at, align=2)
        products = instructions.call(
            builder, instructions.PAIR_PRODUCTS, _pair_products, (pixels, by)
        )
        return builder.add(sums, products)

    return _sums(_sums, _pairs, weights, types.intp), code


def _store_pixel(_typing: Any, high: Any, low: Any, out: Any, p: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def constant(value: int, kind: Any = _FOUR) -> Any:
            return ir.Constant(kind, [value] * kind.count)

        high, low, out, p = args
        sums = builder.add(builder.shl(high, constant(HALF_BITS, _SUMS)), low)
        fours = (_picked(builder, sums, sums, range(at, at + 4)) for at in (0, 4))
        value = builder.ashr(builder.add(*fours), constant(BITS))
        for limit, beyond in ((0, "<"), (255, ">")):
            is_beyond = builder.icmp_signed(beyond, value, constant(limit))
            value = builder.select(is_beyond, constant(limit), value)
        vector = ir.VectorType(_I8, 4)
        to = _address(context, builder, signature.args[2], out, p, vector)
        builder.store(builder.trunc(value, vector), to, align=1)
        return context.get_dummy_value()

    return types.void(_sums, _sums, out, types.intp), code


_made, _half, _read = map(intrinsic, (_zeros, _halves, _four_pixels))
_added, _stored = map(intrinsic, (_add_pairs, _store_pixel))
overload(zeros)(lambda: lambda: _made())
overload(halves)(lambda: lambda: _half())
overload(four_pixels)(lambda line, p: lambda line, p: _read(line, p))
overload(add_pairs)(
    lambda sums, pixels, weights, i: (
        lambda sums, pixels, weights, i: _added(sums, pixels, weights, i)
    )
)
overload(store_pixel)(
    lambda high, low, out, p: lambda high, low, out, p: _stored(high, low, out, p)
)
