"""The entry functions: Python source that checks the arguments and calls the kernel.

Made from the table, compiled by `codegen`. An entry function has the arguments of the C function
and returns one of `codes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isinf

from onnxcam.native import codes
from onnxcam.native.codes import Code
from onnxcam.native.interface import Function, capacity_name, elements, row_bytes, stride_name
from onnxcam.native.table import SIZE_IN_BYTES, Array, Kernel, Number


def entry_source(kernel: Kernel, function: Function) -> str:
    """Source of ``entry(...)``; it needs `kernel` and the functions of `arrays` in its globals.

    Sizes are checked before anything is read, and what is read (the finite arrays) after all else.
    The function that tells the size of a scratch array returns that, or minus an error code.
    """
    if function.scratch is not None:
        return _scratch_source(kernel, function.scratch)
    given = function.arguments
    lines = [f"def entry({', '.join(each.name for each in given)}):"]
    # Sizes are as narrow as the target's pointers; the kernels count in 64 bits everywhere.
    wide = [each.name for each in given if each.dtype == "size"]
    lines += [f"    {name} = int64({name})" for name in wide]
    for wrong, code in _checks(kernel):
        lines += [f"    if {wrong}:", f"        return {code.number}"]
    for array in kernel.arrays:
        if array.finite:
            lines.append(f"    if not all_finite(contiguous({array.name}, ({elements(array)},))):")
            lines.append(f"        return {codes.FINITE.number}")
    called = (
        _view(each) if isinstance(each, Array) else _converted(each) for each in kernel.parameters
    )
    lines += [f"    kernel({', '.join(called)})", f"    return {codes.OK.number}"]
    return "\n".join(lines) + "\n"


def _scratch_source(kernel: Kernel, array: Array) -> str:
    names = kernel.size_names
    lines = [f"def entry({', '.join(names)}):"]
    lines += [f"    {name} = int64({name})" for name in names]
    for wrong in _wrong_sizes(kernel):
        lines += [f"    if {wrong}:", f"        return -{codes.SIZE.number}"]
    return "\n".join([*lines, f"    return {elements(array)}"]) + "\n"


def _checks(kernel: Kernel) -> Iterator[tuple[str, Code]]:
    """Conditions that must not hold, and what to return where one does."""
    for array in kernel.arrays:
        yield f"address({array.name}) == 0", codes.NULL
    for array in kernel.arrays:
        itemsize = SIZE_IN_BYTES[array.dtype]
        if itemsize > 1:
            yield f"address({array.name}) % {itemsize} != 0", codes.ALIGNMENT
    for wrong in _wrong_sizes(kernel):
        yield wrong, codes.SIZE
    for array in kernel.arrays:
        if array.rows:
            itemsize = SIZE_IN_BYTES[array.dtype]
            stride = stride_name(array)
            yield f"{stride} < {row_bytes(array, itemsize)}", codes.STRIDE
            if itemsize > 1:
                yield f"{stride} % {itemsize} != 0", codes.STRIDE
        if array.role == "scratch":
            yield f"{capacity_name(array)} < {elements(array)}", codes.SCRATCH
    for each in kernel.parameters:
        if isinstance(each, Number):
            yield f"not ({_limits(each)})", codes.VALUE
    for condition in kernel.conditions:
        yield f"not ({condition})", codes.VALUE


def _wrong_sizes(kernel: Kernel) -> Iterator[str]:
    limits = {name: (low, high) for name, low, high in kernel.sizes}
    for name in kernel.size_names:
        low, high = limits.get(name, (1, None))
        yield f"{name} < {low}" if high is None else f"{name} < {low} or {name} > {high}"


def _limits(number: Number) -> str:
    if number.dtype.startswith(("int", "uint")):
        return f"{number.low:.0f} <= {number.name} <= {number.high:.0f}"
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
    return f"int64({number.name})" if number.dtype.startswith("int") else number.name
