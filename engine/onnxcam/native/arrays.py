"""What the entry functions need and plain Numba lacks: arrays over C pointers.

`numba.carray` makes contiguous arrays only. With rows apart, an array's inner strides are still
constants here, so that LLVM vectorises along a row as it does for a contiguous array.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from onnxcam.native.table import SIZE_IN_BYTES

_OPTIONS: dict[str, Any] = {"error_model": "numpy", "boundscheck": False}


@intrinsic  # type: ignore[untyped-decorator]
def address(typing_context: Any, pointer: Any) -> Any:
    """The address that a pointer holds, int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ptrtoint(args[0], ir.IntType(64))

    return types.int64(pointer), generate


def _moved(dtype: str) -> Any:
    """``moved_<dtype>(pointer, bytes)``: the pointer so many bytes on, to elements of a dtype."""

    @intrinsic  # type: ignore[untyped-decorator]
    def moved(typing_context: Any, pointer: Any, distance: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            start = builder.bitcast(args[0], ir.IntType(8).as_pointer())
            place = builder.gep(start, [args[1]])
            return builder.bitcast(place, context.get_value_type(signature.return_type))

        return types.CPointer(getattr(types, dtype))(pointer, distance), generate

    return moved


MOVED = {f"moved_{dtype}": _moved(dtype) for dtype in SIZE_IN_BYTES}


@intrinsic  # type: ignore[untyped-decorator]
def contiguous(typing_context: Any, pointer: Any, shape: Any) -> Any:
    """A C-contiguous array of this shape (a tuple of int64) over a pointer."""
    kind = types.Array(pointer.dtype, len(shape), "C")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sides = cgutils.unpack_tuple(builder, args[1])
        return _array(context, builder, kind, args[0], sides, None)

    return kind(pointer, shape), generate


@intrinsic  # type: ignore[untyped-decorator]
def with_rows(typing_context: Any, pointer: Any, shape: Any, stride: Any) -> Any:
    """An array whose rows are contiguous and lie `stride` bytes apart."""
    kind = types.Array(pointer.dtype, len(shape), "A")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sides = cgutils.unpack_tuple(builder, args[1])
        return _array(context, builder, kind, args[0], sides, args[2])

    return kind(pointer, shape, stride), generate


def _array(context: Any, builder: Any, kind: Any, data: Any, sides: Any, stride: Any) -> Any:
    itemsize = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    word = ir.IntType(64)
    step = ir.Constant(word, itemsize)
    strides = []
    for side in reversed(sides):
        strides.append(step)
        step = builder.mul(step, side)
    strides.reverse()
    if stride is not None:
        strides[0] = stride
    array = make_array(kind)(context, builder)
    populate_array(array, data, sides, strides, ir.Constant(word, itemsize), meminfo=None)
    return array._getvalue()


@njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def all_finite(values: Any) -> bool:
    """Whether a float array [n] holds neither NaN nor infinity; without an early exit, so that
    it vectorises."""
    strange = 0
    for i in range(values.shape[0]):
        strange |= values[i] - values[i] != 0.0  # NaN for both
    return strange == 0


@njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def all_places(values: Any, highest: int) -> bool:
    """Whether integers [n] are 0 to `highest` and never fall."""
    last = 0
    for i in range(values.shape[0]):
        if values[i] < last or values[i] > highest:
            return False
        last = values[i]
    return True
