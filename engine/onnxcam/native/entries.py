"""The entry functions: Python source that checks the arguments and calls the kernel.

Made from the table, compiled by `codegen`. An entry function has the arguments of the C function
and returns one of `codes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isinf

from onnxcam.native import codes
from onnxcam.native.codes import Code
from onnxcam.native.interface import (
    CACHE_LINE,
    ROOM,
    SCRATCH,
    Function,
    elements,
    places,
    room,
    row_bytes,
    stride_name,
)
from onnxcam.native.table import SIZE_IN_BYTES, Array, Kernel, Number


def entry_source(kernel: Kernel, function: Function) -> str:
    """Source of ``entry(...)``; it needs `kernel` and the functions of `arrays` in its globals.

    Sizes are checked before anything is read, and what is read (the finite arrays) after all else.
    The function that tells the work space returns its bytes, or minus an error code.
    """
    names = ", ".join(each.name for each in function.arguments)
    lines = [f"def entry({names}):"]
    # Sizes are as narrow as the target's pointers; the kernels count in 64 bits everywhere.
    wide = [each.name for each in function.arguments if each.dtype == "size"]
    lines += [f"    {name} = int64({name})" for name in wide]
    if function.tells_room:
        for wrong in _wrong_sizes(kernel):
            lines += [f"    if {wrong}:", f"        return -{codes.SIZE.number}"]
        return "\n".join([*lines, f"    return {room(kernel)}"]) + "\n"
    for wrong, code in _checks(kernel):
        lines += [f"    if {wrong}:", f"        return {code.number}"]
    if kernel.scratch:
        lines.append(f"    skipped = -address({SCRATCH}) % {CACHE_LINE}")
    for array, place in places(kernel):
        start = f"{SCRATCH}, skipped + {place}"
        lines.append(f"    {array.name} = moved_{array.dtype}({start})")
    called = (
        _view(each) if isinstance(each, Array) else _converted(each) for each in kernel.parameters
    )
    lines += [f"    kernel({', '.join(called)})", f"    return {codes.OK.number}"]
    return "\n".join(lines) + "\n"


def _checks(kernel: Kernel) -> Iterator[tuple[str, Code]]:
    """Conditions that must not hold, and what to return where one does."""
    arrays = [array for array in kernel.arrays if array.role != "scratch"]
    for name in [array.name for array in arrays] + [SCRATCH] * bool(kernel.scratch):
        yield f"address({name}) == 0", codes.NULL
    for array in arrays:
        itemsize = SIZE_IN_BYTES[array.dtype]
        if itemsize > 1:
            yield f"address({array.name}) % {itemsize} != 0", codes.ALIGNMENT
    for wrong in _wrong_sizes(kernel):
        yield wrong, codes.SIZE
    for array in arrays:
        if array.rows:
            itemsize = SIZE_IN_BYTES[array.dtype]
            stride = stride_name(array)
            yield f"{stride} < {row_bytes(array, itemsize)}", codes.STRIDE
            if itemsize > 1:
                yield f"{stride} % {itemsize} != 0", codes.STRIDE
    if kernel.scratch:
        yield f"{ROOM} < {room(kernel)}", codes.SCRATCH
    for each in kernel.parameters:
        if isinstance(each, Number):
            yield f"not ({_limits(each)})", codes.VALUE
    for condition in kernel.conditions:
        yield f"not ({condition})", codes.VALUE
    for array in arrays:
        flat = f"contiguous({array.name}, ({elements(array)},))"
        if array.finite:
            yield f"not all_finite({flat})", codes.FINITE
        if array.highest:
            yield f"not all_places({flat}, {array.highest})", codes.VALUE


def _wrong_sizes(kernel: Kernel) -> Iterator[str]:
    limits = {name: (low, high) for name, low, high in kernel.sizes}
    for name in kernel.size_names:
        low, high = limits.get(name, (1, None))
        yield f"{name} < {low}" if high is None else f"{name} < {low} or {name} > {high}"


def _limits(number: Number) -> str:
    low = f"-inf < {number.name}" if isinf(number.low) else f"{number.low!r} <= {number.name}"
    high = f"{number.name} < inf" if isinf(number.high) else f"{number.name} <= {number.high!r}"
    return f"{low} and {high}"


def _view(array: Array) -> str:
    shape = "".join(f"int64({side}), " for side in array.shape)
    if array.rows:
        return f"with_rows({array.name}, ({shape}), {stride_name(array)})"
    return f"contiguous({array.name}, ({shape}))"


def _converted(number: Number) -> str:
    """Integers reach the kernels as Python's do through Numba: 64 bits wide."""
    return number.name if number.dtype.startswith("float") else f"int64({number.name})"
