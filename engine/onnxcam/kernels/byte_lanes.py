"""32 bytes at once, where eight bits suffice: averages, clipping, and a picture mixed with colours.

As in `lanes`, each operation is a NumPy expression, on uint8 arrays [32], and the LLVM instructions
beside it. A mixture is two instructions for 16 bytes on x86 with AVX2 (pmaddubsw, pmulhrsw), which
LLVM does not find by itself; see `instructions`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from onnxcam.kernels import instructions, lanes
from onnxcam.kernels.lanes import CROSSED, LANES


class _ByteLanesType(types.Type):  # type: ignore[misc]
    """32 unsigned bytes, in the order of memory."""

    def __init__(self) -> None:
        super().__init__(name="ByteLanes")


byte_lanes_type = _ByteLanesType()
_I8, _I16, _I32 = (ir.IntType(bits) for bits in (8, 16, 32))
_BYTES, _LANES, _WIDE = (ir.VectorType(kind, LANES) for kind in (_I8, _I16, _I32))
_compiles_to = lanes.compiles_to


@register_model(_ByteLanesType)
class _ByteLanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _BYTES)


def _constant(value: int, kind: ir.VectorType = _LANES) -> ir.Constant:
    return ir.Constant(kind, [value] * LANES)


def _average(builder: Any, x: Any, y: Any) -> Any:
    # In bytes all the way: with a sum of 16 bits LLVM keeps some averages of averages that wide.
    half = builder.lshr(builder.xor(x, y), _constant(1, _BYTES))
    return builder.sub(builder.or_(x, y), half)


def _with_fourths(builder: Any, x: Any, y: Any) -> Any:
    order = [LANES * (at % 4 == 3) + at for at in range(LANES)]
    return builder.shuffle_vector(x, y, ir.Constant(_WIDE, order))


def _copy_entry(builder: Any, source: Any, target: Any) -> None:
    lanes.store_vector(builder, target, lanes.load_vector(builder, source, _I32))


def _rounded_product(builder: Any, x: Any, factor: Any) -> Any:
    twice = builder.add(x, x)
    high = lanes.high_half("zext")(builder, twice, factor)
    return builder.add(high, builder.lshr(builder.mul(twice, factor), _constant(15)))


def _mixed(builder: Any, picture: Any, colors: Any, pair: Any, factor: Any) -> Any:
    total = builder.add(
        builder.mul(builder.zext(picture, _LANES), builder.and_(pair, _constant(255))),
        builder.mul(builder.zext(colors, _LANES), builder.lshr(pair, _constant(8))),
    )
    product = instructions.call(
        builder, instructions.ROUNDED_PRODUCT, _rounded_product, (total, factor)
    )
    return lanes.clipped_bytes(builder, product)


def _mix(builder: Any, *operands: Any) -> Any:
    return instructions.call(builder, instructions.MIX, _mixed, operands)


_Memory = (types.Array, types.Integer)


@_compiles_to(
    lambda builder, pointer: lanes.load_vector(builder, pointer, _BYTES), _Memory, byte_lanes_type
)
def load(array: Any, at: int) -> Any:
    """32 elements of a uint8 array from the element `at` in memory."""
    return lanes.flat(array)[at : at + LANES].copy()


@_compiles_to(lanes.store_vector, (*_Memory, byte_lanes_type), types.none)
def store(array: Any, at: int, x: Any) -> None:
    """The opposite of `load`."""
    lanes.flat(array)[at : at + LANES] = x


@_compiles_to(_copy_entry, (*_Memory, *_Memory), types.none)
def copy_entry(table: Any, index: int, array: Any, at: int) -> None:
    """One entry of an int32 table as four elements of a uint8 array, lowest bits first."""
    lanes.flat(array)[at : at + 4] = table[index : index + 1].astype("<i4").view(np.uint8)


@_compiles_to(
    lambda builder, number: lanes.fill_vector(builder, builder.trunc(number, _I8), _BYTES),
    (types.Integer,),
    byte_lanes_type,
)
def fill(number: int) -> Any:
    """The same number, 0 to 255, in every lane."""
    return np.full(LANES, number, np.uint8)


@_compiles_to(_average, (byte_lanes_type, byte_lanes_type), byte_lanes_type)
def average(x: Any, y: Any) -> Any:
    """``(x + y + 1) / 2`` without its fraction."""
    return ((x.astype(np.uint16) + y + 1) >> 1).astype(np.uint8)


@_compiles_to(lanes.intrinsic("usub.sat"), (byte_lanes_type, byte_lanes_type), byte_lanes_type)
def subtract_to_zero(x: Any, y: Any) -> Any:
    """Difference, zero where y is the larger one."""
    return x - np.minimum(x, y)


@_compiles_to(lanes.intrinsic("uadd.sat"), (byte_lanes_type, byte_lanes_type), byte_lanes_type)
def add_clipped(x: Any, y: Any) -> Any:
    """Sum, at most 255."""
    return x + np.minimum(y, 255 - x)


@_compiles_to(_with_fourths, (byte_lanes_type, byte_lanes_type), byte_lanes_type)
def with_fourths(x: Any, y: Any) -> Any:
    """x, but every fourth byte of y."""
    return np.where(np.arange(LANES) % 4 == 3, y, x)


@_compiles_to(lanes.intrinsic("umin"), (byte_lanes_type, byte_lanes_type), byte_lanes_type)
def smaller(x: Any, y: Any) -> Any:
    """Minimum."""
    return np.minimum(x, y)


@_compiles_to(lanes.narrowed, (lanes.lanes_type,), byte_lanes_type)
def narrowed(x: Any) -> Any:
    """Signed lanes of 16 bits in the order `CROSSED`, clipped to 0..255, in that of memory."""
    found = np.empty(LANES, np.uint8)
    found[list(CROSSED)] = x.view(np.int16).clip(0, 255)
    return found


@_compiles_to(
    _mix, (byte_lanes_type, byte_lanes_type, lanes.lanes_type, lanes.lanes_type), byte_lanes_type
)
def mix(picture: Any, colors: Any, pair: Any, factor: Any) -> Any:
    """``(w * picture + v * colors) * factor / 32768``, rounded, clipped to 0..255.

    Args:
        picture, colors: bytes.
        pair: lanes of one ``w + 256 * v``; w and v up to 127, their sum up to 128.
        factor: lanes of one number below 32768.
    """
    total = picture.astype(np.uint32) * (pair & 255) + colors.astype(np.uint32) * (pair >> 8)
    return np.minimum((total * factor + 16384) >> 15, 255).astype(np.uint8)
