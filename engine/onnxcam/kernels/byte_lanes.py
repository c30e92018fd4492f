"""64 bytes at once, where eight bits suffice: averages, clipping, and a picture mixed with colours.

As in `lanes`, each operation is a NumPy expression, on uint8 arrays [64], and the LLVM instructions
beside it. 64 is a register of AVX-512, which other machines make of two or four. A mixture is two
instructions for 16 bytes on x86 with AVX2 (pmaddubsw, pmulhrsw), which LLVM does not find by
itself; see `instructions`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from onnxcam.kernels import instructions, lanes
from onnxcam.kernels.instructions import joined, picked
from onnxcam.kernels.lanes import CROSSED, LANES, constant

WIDTH = 2 * LANES
HALF = LANES


class _ByteLanesType(types.Type):  # type: ignore[misc]
    """64 unsigned bytes, in the order of memory."""

    def __init__(self) -> None:
        super().__init__(name="ByteLanes")


byte_lanes_type = _ByteLanesType()
_I8, _I16, _I32 = (ir.IntType(bits) for bits in (8, 16, 32))
_BYTES, _WORDS = (ir.VectorType(kind, WIDTH) for kind in (_I8, _I16))
_HALF = ir.VectorType(_I8, HALF)
_compiles_to = lanes.compiles_to


@register_model(_ByteLanesType)
class _ByteLanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _BYTES)


def _average(builder: Any, x: Any, y: Any) -> Any:
    # In bytes all the way: with a sum of 16 bits LLVM keeps some averages of averages that wide.
    half = builder.lshr(builder.xor(x, y), constant(1, _BYTES))
    return builder.sub(builder.or_(x, y), half)


def _with_fourths(builder: Any, x: Any, y: Any) -> Any:
    return picked(builder, x, y, (at + WIDTH * (at % 4 == 3) for at in range(WIDTH)))


def _load_half(builder: Any, pointer: Any) -> Any:
    half = lanes.load_vector(builder, pointer, _HALF)
    return joined(builder, [half, constant(0, _HALF)])


def _store_half(builder: Any, pointer: Any, x: Any) -> None:
    lanes.store_vector(builder, pointer, picked(builder, x, x, range(HALF)))


def _narrowed(builder: Any, x: Any, y: Any) -> Any:
    return lanes.narrowed(builder, joined(builder, [x, y]))


def _clipped_eights(builder: Any, lower: Any, upper: Any) -> Any:
    halves = []
    for start in (0, LANES // 2):
        places = range(start, start + LANES // 2)
        both = joined(builder, [picked(builder, each, each, places) for each in (lower, upper)])
        halves.append(lanes.narrowed(builder, both))
    return joined(builder, halves)


def _clip_eights(builder: Any, *operands: Any) -> Any:
    return instructions.call(builder, instructions.CLIP_EIGHTS, _clipped_eights, operands)


def _copy_entry(builder: Any, source: Any, target: Any) -> None:
    lanes.store_vector(builder, target, lanes.load_vector(builder, source, _I32))


def _rounded_product(builder: Any, x: Any, factor: Any) -> Any:
    twice = builder.add(x, x)
    high = lanes.high_half("zext")(builder, twice, factor)
    return builder.add(high, builder.lshr(builder.mul(twice, factor), constant(15, _WORDS)))


def _mixed(builder: Any, picture: Any, colors: Any, pair: Any, factor: Any) -> Any:
    pair, factor = (joined(builder, [each, each]) for each in (pair, factor))
    total = builder.add(
        builder.mul(builder.zext(picture, _WORDS), builder.and_(pair, constant(255, _WORDS))),
        builder.mul(builder.zext(colors, _WORDS), builder.lshr(pair, constant(8, _WORDS))),
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
    """64 elements of a uint8 array from the element `at` in memory."""
    return lanes.flat(array)[at : at + WIDTH].copy()


@_compiles_to(lanes.store_vector, (*_Memory, byte_lanes_type), types.none)
def store(array: Any, at: int, x: Any) -> None:
    """The opposite of `load`."""
    lanes.flat(array)[at : at + WIDTH] = x


@_compiles_to(_load_half, _Memory, byte_lanes_type)
def load_half(array: Any, at: int) -> Any:
    """32 elements and as many zeros."""
    return np.concatenate([lanes.flat(array)[at : at + HALF], np.zeros(HALF, np.uint8)])


@_compiles_to(_store_half, (*_Memory, byte_lanes_type), types.none)
def store_half(array: Any, at: int, x: Any) -> None:
    """The opposite of `load_half`; the other 32 are dropped."""
    lanes.flat(array)[at : at + HALF] = x[:HALF]


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
    return np.full(WIDTH, number, np.uint8)


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
    return np.where(np.arange(WIDTH) % 4 == 3, y, x)


@_compiles_to(lanes.intrinsic("umin"), (byte_lanes_type, byte_lanes_type), byte_lanes_type)
def smaller(x: Any, y: Any) -> Any:
    """Minimum."""
    return np.minimum(x, y)


@_compiles_to(_narrowed, (lanes.lanes_type, lanes.lanes_type), byte_lanes_type)
def narrowed(x: Any, y: Any) -> Any:
    """Twice 32 signed lanes in the order `CROSSED`, clipped to 0..255, in that of memory."""
    found = np.empty((2, LANES), np.uint8)
    found[:, list(CROSSED)] = np.stack([x, y]).view(np.int16).clip(0, 255)
    return found.reshape(-1)


@_compiles_to(_clip_eights, (lanes.lanes_type, lanes.lanes_type), byte_lanes_type)
def clip_eights(lower: Any, upper: Any) -> Any:
    """Signed lanes, of every 16 bytes the lower eight and the upper ones, clipped to 0..255."""
    eights = np.stack([lower.reshape(-1, 8), upper.reshape(-1, 8)], 1)
    return eights.view(np.int16).clip(0, 255).astype(np.uint8).reshape(-1)


@_compiles_to(
    lambda builder, x, y: lanes.clipped_bytes(builder, joined(builder, [x, y])),
    (lanes.lanes_type, lanes.lanes_type),
    byte_lanes_type,
)
def clipped(x: Any, y: Any) -> Any:
    """Twice 32 signed lanes, clipped to 0..255."""
    return np.concatenate([x, y]).view(np.int16).clip(0, 255).astype(np.uint8)


def _eights(first: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Two operations on eights, every second from `first` (0 or 8) on."""
    places = [start + k for start in range(first, WIDTH, 16) for k in range(8)]

    def widen(builder: Any, x: Any, low: Any) -> Any:
        low = builder.bitcast(low, _BYTES)
        mixed = picked(builder, low, x, (at + k for at in places for k in (0, WIDTH)))
        return builder.bitcast(mixed, ir.VectorType(_I16, LANES))

    @_compiles_to(widen, (byte_lanes_type, lanes.lanes_type))
    def widened(x: Any, low: Any) -> Any:
        return x[places].astype(np.uint16) << 8 | low & 0xFF

    @_compiles_to(lambda builder, x, y: picked(builder, x, y, places), (lanes.lanes_type,) * 2)
    def eights(x: Any, y: Any) -> Any:
        return np.concatenate([x, y])[places]

    return widened, eights


# Of every 16 bytes the lower or the upper eight, each as the high half of its lane; the low halves
# come from a lane whose two bytes are equal. (So processors widen and narrow, 16 bytes at a time.)
# And of twice 32 lanes those that belong to such bytes.
(widen_lower, lower_eights), (widen_upper, upper_eights) = _eights(0), _eights(8)


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
    pair, factor = np.tile(pair, 2), np.tile(factor, 2)
    total = picture.astype(np.uint32) * (pair & 255) + colors.astype(np.uint32) * (pair >> 8)
    return np.minimum((total * factor + 16384) >> 15, 255).astype(np.uint8)
