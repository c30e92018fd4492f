"""Two rows of pixels at once, for the exact sums of Pillow's resize.

A byte times a weight of 23 bits needs 32, and processors multiply 32 bits slowly. So a weight comes
as two halves of 16 bits, and bytes in pairs that are added: x86 multiplies and adds such pairs in
one instruction (pmaddwd; of WebAssembly's, `i32x4.dot_i16x8_s`, see `instructions`).
As in `lanes`, each operation is also a NumPy function, and integers have the same sum in whatever
order. Vectors of 32 bytes are two rows (or two parts of one) of 16 bytes each: AVX2 moves nothing
from one of its halves to the other without an instruction for just that. Two pixels' weights are
four bytes that every pair is multiplied by, so that those of a whole row stay in the first cache.

A pixel of two rows from six columns is some 20 instructions that compute. Tried in their place on a
Xeon of 2023, for a row of 224 such pixels (0.280 us): rows put together by vbroadcasti128 and
vpblendd 0.283, weights stored eight times 0.293, or four times 0.282, and rounded by vpavgw after
packing 0.274, which SSE2 can't. Four columns of one row in a vector (before) want multiples of
four, and the sum of its halves at the end: 1.7 times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import register_model

from onnxcam.kernels import instructions, lanes
from onnxcam.kernels.instructions import picked
from onnxcam.kernels.lanes import constant

BITS = 22  # of a weight's fraction: Pillow's
HALF_BITS = 11  # of them in the lower of its halves
READ = 16  # bytes of a row that `two_rows` reads
PAIRED = 16  # numbers in eight pairs
_I8, _I16, _I32 = (ir.IntType(bits) for bits in (8, 16, 32))
_BYTES, _SUMS, _PAIRS = (ir.VectorType(*each) for each in ((_I8, 32), (_I32, 8), (_I16, PAIRED)))
_ROW = ir.VectorType(_I8, READ)
_compiles_to = lanes.compiles_to
# Which bytes of a row stands where as 16 bits, of two pixels of three colours; None is a zero.
_PAIR = (0, 3, 1, 4, 2, 5, None, None)


class _BytesType(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="Lanes32xUint8")


class _PairsType(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="Lanes16xInt16")


class _SumsType(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="Lanes8xInt32")


class _BytesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _BYTES)


class _PairsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _PAIRS)


class _SumsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _SUMS)


_bytes, _pairs, _sums = _BytesType(), _PairsType(), _SumsType()
register_model(_BytesType)(_BytesModel)
register_model(_PairsType)(_PairsModel)
register_model(_SumsType)(_SumsModel)
_Memory = (types.Array, types.Integer)


def _two_rows(builder: Any, above: Any, below: Any) -> Any:
    upper, lower = (lanes.load_vector(builder, each, _ROW) for each in (above, below))
    return picked(builder, upper, lower, range(2 * READ))


def _spread(builder: Any, pointer: Any) -> Any:
    pair = lanes.load_vector(builder, pointer, _I32)
    pair.align = 2
    lane = builder.insert_element(ir.Constant(_SUMS, ir.Undefined), pair, _I32(0))
    return builder.bitcast(picked(builder, lane, lane, [0] * 8), _PAIRS)


def _prefetch(builder: Any, pointer: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, _I32, _I32, _I32])
    function = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
    builder.call(function, [pointer, _I32(0), _I32(3), _I32(1)])  # a read, of data, soon


def _pair_products(builder: Any, x: Any, y: Any) -> Any:
    wide = ir.VectorType(_I32, PAIRED)
    products = builder.mul(*(builder.sext(each, wide) for each in (x, y)))
    even, odd = (picked(builder, products, products, range(first, PAIRED, 2)) for first in (0, 1))
    return builder.add(even, odd)


def _add_products(builder: Any, sums: Any, pixels: Any, weights: Any) -> Any:
    products = instructions.call(
        builder, instructions.PAIR_PRODUCTS, _pair_products, (pixels, weights)
    )
    return builder.add(sums, products)


def _levels(builder: Any, high: Any, low: Any) -> Any:
    sums = builder.add(builder.shl(high, constant(HALF_BITS, _SUMS)), low)
    return builder.ashr(builder.add(sums, constant(1 << (BITS - 1), _SUMS)), constant(BITS, _SUMS))


def _packed(builder: Any, *sums: Any) -> Any:
    left, right = (picked(builder, sums[at], sums[at + 1], range(16)) for at in (0, 2))
    places = [at + k for k in (0, 4) for at in (0, 8, 16, 24)]
    found = picked(builder, left, right, [at + k for at in places for k in range(4)])
    for limit, beyond in ((0, "<"), (255, ">")):
        bound = constant(limit, found.type)
        found = builder.select(builder.icmp_signed(beyond, found, bound), bound, found)
    return builder.trunc(found, _BYTES)


def _pack(builder: Any, *sums: Any) -> Any:
    return instructions.call(builder, instructions.PACK, _packed, sums)


@_compiles_to(lambda builder, pointer: lanes.load_vector(builder, pointer, _BYTES), _Memory, _bytes)
def load(array: Any, at: int) -> Any:
    """32 elements of a uint8 array from the element `at` in memory."""
    return lanes.flat(array)[at : at + 32].copy()


@_compiles_to(lanes.store_vector, (*_Memory, _bytes), types.none)
def store(array: Any, at: int, x: Any) -> None:
    """The opposite of `load`."""
    lanes.flat(array)[at : at + 32] = x


@_compiles_to(lambda builder: constant(0, _SUMS), (), _sums)
def zeros() -> Any:
    """Eight zeros, int32."""
    return np.zeros(PAIRED // 2, np.int32)


@_compiles_to(lambda builder, pointer: builder.load(pointer), _Memory, types.int64)
def place(places: Any, at: int) -> Any:
    """One element of an int64 array; `at` is not negative (an index would be checked for that)."""
    return places[at]


@_compiles_to(_two_rows, (*_Memory, *_Memory), _bytes)
def two_rows(above: Any, p: int, below: Any, q: int) -> Any:
    """16 bytes each of two rows, uint8, from the elements `p` and `q` on.

    Behind a row's end may be whatever memory can be read (here zeros).
    """
    parts = above[p : p + READ], below[q : q + READ]
    return np.concatenate([np.pad(part, (0, READ - len(part))) for part in parts])


@_compiles_to(_prefetch, _Memory, types.none)
def prefetch(array: Any, at: int) -> None:
    """Nothing but a hint that this place will be read; it may lie behind the array."""


@_compiles_to(_spread, _Memory, _pairs)
def spread(weights: Any, at: int) -> Any:
    """Two weights, int16, eight times."""
    return np.tile(weights[at : at + 2], 8)


@_compiles_to(_add_products, (_sums, _pairs, _pairs), _sums)
def add_products(sums: Any, pixels: Any, weights: Any) -> Any:
    """Add the products, two neighbouring ones to each of the eight sums."""
    products = pixels.astype(np.int32) * weights
    return sums + products[::2] + products[1::2]


@_compiles_to(_levels, (_sums, _sums), _sums)
def levels(high: Any, low: Any) -> Any:
    """``2^11 high + low``, in units of 2^-22, rounded to whole ones."""
    sums = (high << np.int32(HALF_BITS)) + low + np.int32(1 << (BITS - 1))
    return sums >> np.int32(BITS)


@_compiles_to(_pack, (_sums,) * 4, _bytes)
def pack(a: Any, b: Any, c: Any, d: Any) -> Any:
    """The first four of each, then the second four of each, clipped to bytes."""
    found = np.stack([a, b, c, d]).reshape(4, 2, 4).swapaxes(0, 1)
    return found.clip(0, 255).astype(np.uint8).reshape(-1)


# Pixels of three colours.


def _two_pixels(first: int) -> Callable[..., Any]:
    """Pixels `first` and the next of each row, as pairs of numbers: r r g g b b 0 0."""
    zero = 2 * READ
    places = [zero if at is None else row + first * 3 + at for row in (0, READ) for at in _PAIR]

    def build(builder: Any, rows: Any) -> Any:
        each = [byte for at in places for byte in (at, zero)]  # the upper half is zero
        return builder.bitcast(picked(builder, rows, constant(0, _BYTES), each), _PAIRS)

    @_compiles_to(build, (_bytes,), _pairs)
    def two_pixels(rows: Any) -> Any:
        return np.append(rows, np.uint8(0))[places].astype(np.int16)

    return two_pixels


# Of `two_rows` from a pixel on: that pixel and the next; the two after these.
pixels_01, pixels_23 = _two_pixels(0), _two_pixels(2)
_CLOSE = [row + 4 * pixel + c for row in (0, READ) for pixel in range(4) for c in range(3)]


def _closed_up(builder: Any, pixels: Any) -> Any:
    zeros = [2 * READ] * 4
    places = [*_CLOSE[:12], *zeros, *_CLOSE[12:], *zeros]
    return picked(builder, pixels, constant(0, _BYTES), places)


def _store_half(half: int) -> Callable[..., Any]:
    def build(builder: Any, pointer: Any, rows: Any) -> Any:
        part = picked(builder, rows, rows, range(READ * half, READ * half + READ))
        lanes.store_vector(builder, pointer, part)

    @_compiles_to(build, (*_Memory, _bytes), types.none)
    def store(out: Any, at: int, rows: Any) -> None:
        out[at : at + READ] = rows[READ * half : READ * half + READ]

    return store


@_compiles_to(_closed_up, (_bytes,), _bytes)
def close_up(pixels: Any) -> Any:
    """Of each row's four pixels without their fourth bytes; four zeros behind them."""
    found = pixels.reshape(2, 4, 4)[..., :3].reshape(2, 12)
    return np.pad(found, ((0, 0), (0, 4))).reshape(-1)


# The 16 bytes of the upper and of the lower row.
store_above, store_below = _store_half(0), _store_half(1)


# Rows of bytes that are added.


def _quarter(part: int) -> Callable[..., Any]:
    """Columns 4 part to 4 part + 3 and 16 more, of two rows of 32: pairs of 16 bits."""
    first = [16 * half + 8 * (part // 2) + k for half in (0, 1) for k in range(8)]
    second = [16 * half + 8 * (part % 2) + k for half in (0, 1) for k in range(8)]

    def build(builder: Any, above: Any, below: Any) -> Any:
        pairs = picked(builder, above, below, [at + row for at in first for row in (0, 32)])
        zero = constant(0, _BYTES)
        mixed = picked(builder, pairs, zero, [at + k for at in second for k in (0, 32)])
        return builder.bitcast(mixed, _PAIRS)

    @_compiles_to(build, (_bytes,) * 2, _pairs)
    def quarter(above: Any, below: Any) -> Any:
        columns = [16 * half + 4 * part + k for half in (0, 1) for k in range(4)]
        return np.stack([above[columns], below[columns]], axis=1).astype(np.int16).reshape(-1)

    return quarter


quarter_0, quarter_1, quarter_2, quarter_3 = map(_quarter, range(4))
