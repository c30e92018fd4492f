"""32 numbers of 16 bits at once: the few operations from which the fast inner loops are written.

Every operation has two meanings. Called from Python it is the NumPy expression in its body, on
uint16 arrays [32]; inside a compiled kernel it is the LLVM instructions beside it, on a vector of
32 lanes of 16 bits, which the compiler cuts into the registers that the machine has. Integers
only: the result does not depend on how it is cut.

Why not leave it to the compiler: a plain loop over bytes widens to 32 bits, needs to know that
its arrays do not overlap (an overlay may be painted over its own picture) and reached half the
speed (26 against 12 us for the inner loop of a picture of 224x224).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, models, register_model, type_callable
from numba.np.arrayobj import populate_array

from onnxcam.kernels.instructions import picked

LANES = 32
# Of 32 bytes, in which order lanes hold them that will be narrowed to bytes: processors do that 16
# bytes at a time (the pack instructions), and from this order none has to move to another 16.
CROSSED = (*range(8), *range(16, 24), *range(8, 16), *range(24, 32))

_Function = TypeVar("_Function", bound=Callable[..., Any])


class _LanesType(types.Type):  # type: ignore[misc]
    """32 lanes of 16 bits; signed or unsigned is a matter of the operation."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes_type = _LanesType()
_I1, _I8, _I16, _I32 = (ir.IntType(bits) for bits in (1, 8, 16, 32))
_VECTOR = ir.VectorType(_I16, LANES)
_WIDE = ir.VectorType(_I32, LANES)


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


_TYPERS: dict[int, Callable[[Any], Callable[..., Any]]] = {
    0: lambda result: lambda: result,
    1: lambda result: lambda a: result,
    2: lambda result: lambda a, b: result,
    3: lambda result: lambda a, b, c: result,
    4: lambda result: lambda a, b, c, d: result,
    5: lambda result: lambda a, b, c, d, e: result,
}


def compiles_to(
    build: Callable[..., Any], arguments: tuple[Any, ...], result: Any = lanes_type
) -> Callable[[_Function], _Function]:
    """Say what a function becomes inside a kernel: `build(builder, *operands)`.

    Operands are LLVM values; of an array with the position after it one pointer is made.
    """

    def declare(function: _Function) -> _Function:
        type_callable(function)(lambda context: _TYPERS[len(arguments)](result))

        def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            operands = []
            kinds = iter(zip(signature.args, values, strict=True))
            for kind, value in kinds:
                if isinstance(kind, types.Array):
                    at_kind, at = next(kinds)
                    at = context.cast(builder, at, at_kind, types.intp)
                    data = context.make_array(kind)(context, builder, value).data
                    operands.append(builder.gep(data, [at]))
                elif isinstance(kind, types.Integer):
                    operands.append(context.cast(builder, value, kind, types.int16))
                else:
                    operands.append(value)
            made = build(builder, *operands)
            return context.get_dummy_value() if result is types.none else made

        lower_builtin(function, *arguments)(lower)
        return function

    return declare


def constant(value: int, kind: ir.VectorType = _VECTOR) -> ir.Constant:
    """The same number in every lane."""
    return ir.Constant(kind, [value] * kind.count)


def load_vector(builder: Any, pointer: Any, kind: Any) -> Any:
    value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    value.align = 1
    return value


def store_vector(builder: Any, pointer: Any, value: Any) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer())).align = 1


def fill_vector(builder: Any, number: Any, kind: ir.VectorType = _VECTOR) -> Any:
    lane = builder.insert_element(ir.Constant(kind, ir.Undefined), number, _I32(0))
    return builder.shuffle_vector(lane, lane, constant(0, ir.VectorType(_I32, kind.count)))


def intrinsic(name: str, *more: ir.Constant) -> Callable[..., Any]:
    """An LLVM intrinsic on one or two vectors of a kind, and constants after them."""

    def build(builder: Any, *operands: Any) -> Any:
        operands = (*operands, *more)
        vector = operands[0].type
        kind = ir.FunctionType(vector, [operand.type for operand in operands])
        full_name = f"llvm.{name}.v{vector.count}i{vector.element.width}"
        function = cgutils.get_or_insert_function(builder.module, kind, full_name)
        return builder.call(function, operands)

    return build


def high_half(extend: str) -> Callable[..., Any]:
    def build(builder: Any, x: Any, y: Any) -> Any:
        kind = x.type
        wide = ir.VectorType(_I32, kind.count)
        x, y = (getattr(builder, extend)(each, wide) for each in (x, y))
        return builder.trunc(builder.lshr(builder.mul(x, y), constant(16, wide)), kind)

    return build


def clipped_bytes(builder: Any, lanes: Any) -> Any:
    # The instruction that narrows clips so by itself, which LLVM sees if both bounds are signed.
    kind = lanes.type
    clipped = intrinsic("smax")(builder, lanes, constant(0, kind))
    clipped = intrinsic("smin")(builder, clipped, constant(255, kind))
    return builder.trunc(clipped, ir.VectorType(_I8, kind.count))


def narrowed(builder: Any, lanes: Any) -> Any:
    """Lanes in the order `CROSSED` as clipped bytes in that of memory."""
    found = clipped_bytes(builder, lanes)
    order = [at - at % LANES + CROSSED.index(at % LANES) for at in range(found.type.count)]
    return picked(builder, found, found, order)


def _copy_8(builder: Any, source: Any, target: Any) -> None:
    store_vector(builder, target, load_vector(builder, source, ir.IntType(64)))


_Memory = (types.Array, types.Integer)


# Memory. `at` counts elements in memory from the array's first one, whatever its shape: a picture
# [H, W, C] of rows R bytes apart has its row y at ``y * R``. (Slices would do, but Numba counts
# references to each, which for a small picture costs as much as painting it.) Nothing checks that
# `at` lies inside.


def flat(array: Any) -> Any:
    reach = 1 + sum((n - 1) * step for n, step in zip(array.shape, array.strides, strict=True))
    length = -(-reach // array.itemsize)
    return np.lib.stride_tricks.as_strided(array, (length,), (array.itemsize,))


@compiles_to(lambda builder, pointer: builder.load(pointer), _Memory, types.uint8)
def byte(array: Any, at: int) -> Any:
    """One element of a uint8 array."""
    return flat(array)[at]


@compiles_to(
    lambda builder, pointer, value: builder.store(builder.trunc(value, _I8), pointer),
    (*_Memory, types.Integer),
    types.none,
)
def put_byte(array: Any, at: int, value: Any) -> None:
    """Set one element of a uint8 array."""
    flat(array)[at] = value


@compiles_to(lambda builder, pointer: load_vector(builder, pointer, _VECTOR), _Memory)
def load(array: Any, at: int) -> Any:
    """32 lanes of an int16 or uint16 array."""
    return flat(array)[at : at + LANES].view(np.uint16).copy()


@compiles_to(lambda builder, pointer: load_vector(builder, pointer, _VECTOR), _Memory)
def load_8(table: Any, at: int) -> Any:
    """Eight entries of an int64 table as 32 lanes, lowest bits first."""
    return table[at : at + 8].astype("<i8").view("<u2").astype(np.uint16)


@compiles_to(store_vector, (*_Memory, lanes_type), types.none)
def store(array: Any, at: int, lanes: Any) -> None:
    """The opposite of `load`."""
    flat(array)[at : at + LANES] = lanes.view(array.dtype)


@compiles_to(_copy_8, (*_Memory, *_Memory), types.none)
def copy_8(source: Any, start: int, target: Any, at: int) -> None:
    """Eight elements of a uint8 array to another."""
    flat(target)[at : at + 8] = flat(source)[start : start + 8]


@compiles_to(_copy_8, (*_Memory, *_Memory), types.none)
def copy_entry(table: Any, index: int, array: Any, at: int) -> None:
    """One entry of an int64 table as four elements of a uint16 array, lowest bits first."""
    flat(array)[at : at + 4] = table[index : index + 1].astype("<i8").view("<u2")


# Work space: parts of one int64 array as arrays of other types.


def _carve(dtype: Any) -> Callable[..., Any]:
    size = np.dtype(str(dtype)).itemsize
    kind = types.Array(dtype, 2, "C")

    def carve(work: Any, at: int, rows: int, columns: int) -> Any:
        """Columns of rows that begin at the element `at` of `work`, in its memory."""
        part = work.view(np.uint8)[8 * at : 8 * at + rows * columns * size]
        return part.view(str(dtype)).reshape(rows, columns)

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        work, *numbers = values
        at, rows, columns = (
            context.cast(builder, value, given, types.intp)
            for value, given in zip(numbers, signature.args[1:], strict=True)
        )
        data = context.make_array(signature.args[0])(context, builder, work).data
        array = context.make_array(kind)(context, builder)
        item = context.get_constant(types.intp, size)
        populate_array(
            array,
            builder.bitcast(builder.gep(data, [at]), array.data.type),
            (rows, columns),
            (builder.mul(columns, item), item),
            item,
            meminfo=None,
        )
        return array._getvalue()

    type_callable(carve)(lambda context: _TYPERS[4](kind))
    lower_builtin(carve, types.Array, types.Integer, types.Integer, types.Integer)(lower)
    return carve


carve_int32, carve_float32, carve_uint16, carve_uint8 = (
    _carve(dtype) for dtype in (types.int32, types.float32, types.uint16, types.uint8)
)


# Arithmetic, modulo 65536.


@compiles_to(fill_vector, (types.Integer,))
def fill(number: int) -> Any:
    """The same number in every lane."""
    return np.full(LANES, number & 0xFFFF, np.uint16)


@compiles_to(lambda builder, x, y: builder.add(x, y), (lanes_type, lanes_type))
def add(x: Any, y: Any) -> Any:
    """Sum."""
    return x + y


@compiles_to(lambda builder, x, y: builder.sub(x, y), (lanes_type, lanes_type))
def subtract(x: Any, y: Any) -> Any:
    """Difference."""
    return x - y


@compiles_to(lambda builder, x, y: builder.mul(x, y), (lanes_type, lanes_type))
def multiply(x: Any, y: Any) -> Any:
    """The lower 16 bits of the product."""
    return x * y


@compiles_to(intrinsic("usub.sat"), (lanes_type, lanes_type))
def subtract_to_zero(x: Any, y: Any) -> Any:
    """Difference of unsigned lanes, zero where y is the larger one."""
    return x - np.minimum(x, y)


@compiles_to(intrinsic("umax"), (lanes_type, lanes_type))
def larger(x: Any, y: Any) -> Any:
    """Maximum of unsigned lanes."""
    return np.maximum(x, y)


@compiles_to(intrinsic("abs", ir.Constant(_I1, 0)), (lanes_type,))
def magnitude(x: Any) -> Any:
    """Absolute value of signed lanes."""
    return np.abs(x.view(np.int16)).view(np.uint16)


@compiles_to(high_half("zext"), (lanes_type, lanes_type))
def multiply_high(x: Any, y: Any) -> Any:
    """The upper 16 bits of the product of unsigned lanes.

    One of them should be loaded beside the multiplication: LLVM moves the widening of a constant
    out of the loop and then no longer sees that one instruction does it all.
    """
    return ((x.astype(np.uint32) * y) >> 16).astype(np.uint16)


@compiles_to(high_half("sext"), (lanes_type, lanes_type))
def multiply_high_signed(x: Any, y: Any) -> Any:
    """The upper 16 bits of the product of signed lanes (rounded down)."""
    return ((x.view(np.int16).astype(np.int32) * y.view(np.int16)) >> 16).astype(np.uint16)


@compiles_to(
    lambda builder, x, n: builder.lshr(x, fill_vector(builder, n)), (lanes_type, types.Integer)
)
def right(x: Any, bits: int) -> Any:
    """Shifted to the right, zeros coming in."""
    return x >> np.uint16(bits)


@compiles_to(
    lambda builder, x, n: builder.ashr(x, fill_vector(builder, n)), (lanes_type, types.Integer)
)
def right_signed(x: Any, bits: int) -> Any:
    """Signed lanes shifted to the right."""
    return (x.view(np.int16) >> np.int16(bits)).view(np.uint16)


# From one value a pixel to one value a byte of RGB.


def thirds(part: int) -> list[int]:
    """Which of 32 pixels the 32 lanes of a part, 0 to 2, belong to.

    The 96 bytes are 3 blocks of 32 bytes, each in the order `CROSSED`.
    """
    return [(LANES * part + at) // 3 for at in CROSSED]


def _spread(part: int) -> Callable[..., Any]:
    mask = ir.Constant(_WIDE, thirds(part))

    @compiles_to(lambda builder, x: builder.shuffle_vector(x, x, mask), (lanes_type,))
    def spread(x: Any) -> Any:
        return x[thirds(part)]

    return spread


# A part: the values of 32 pixels at the places of their bytes.
spread_0, spread_1, spread_2 = (_spread(part) for part in range(3))
