"""From a row of the table to its C functions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnxcam.native.table import Array, Kernel, Parameter

PREFIX = "onnxcam_"

# dtype -> its name in C; "size" is as wide as a pointer
C_NAMES = {
    "uint8": "uint8_t",
    "int16": "int16_t",
    "uint16": "uint16_t",
    "int32": "int32_t",
    "uint32": "uint32_t",
    "int64": "int64_t",
    "float32": "float",
    "float64": "double",
    "size": "ptrdiff_t",
}


@dataclass(frozen=True)
class Argument:
    """An argument in C: `kind` is "pointer", "stride", "capacity", "number" or "size".

    `source` is its row's parameter; a size has none.
    """

    name: str
    kind: str
    dtype: str
    source: Parameter | None = None

    @property
    def declaration(self) -> str:
        """As in a C prototype."""
        kind = C_NAMES[self.dtype]
        if self.kind != "pointer":
            return f"{kind} {self.name}"
        assert isinstance(self.source, Array)
        return f"{'const ' * (self.source.role == 'in')}{kind} *{self.name}"


@dataclass(frozen=True)
class Function:
    """A C function: `returns` is a dtype; `scratch` is the array whose size it returns, if any."""

    name: str
    returns: str
    arguments: tuple[Argument, ...]
    scratch: Array | None = None


def functions(kernel: Kernel) -> Iterator[Function]:
    """The functions of a row: the kernel's own, then one for every scratch array.

    The kernel's own has the kernel's parameters in order, then the sizes.
    """
    sizes = [Argument(name, "size", "size") for name in kernel.size_names]
    yield Function(PREFIX + kernel.name, "int32", (*_arguments(kernel), *sizes))
    for array in kernel.arrays:
        if array.role == "scratch":
            name = f"{PREFIX}{kernel.name}_{array.name}_size"
            yield Function(name, "size", tuple(sizes), array)


def _arguments(kernel: Kernel) -> Iterator[Argument]:
    for each in kernel.parameters:
        if not isinstance(each, Array):
            yield Argument(each.name, "number", each.dtype, each)
            continue
        yield Argument(each.name, "pointer", each.dtype, each)
        if each.role == "scratch":
            yield Argument(capacity_name(each), "capacity", "size", each)
        if each.rows:
            yield Argument(stride_name(each), "stride", "size", each)


def prototype(function: Function, name: str | None = None) -> str:
    """The C declaration, without the semicolon."""
    given = ", ".join(each.declaration for each in function.arguments)
    return f"{C_NAMES[function.returns]} {name or function.name}({given})"


def stride_name(array: Array) -> str:
    """The name of an array's row stride."""
    return f"{array.name}_stride"


def capacity_name(array: Array) -> str:
    """The name of the argument that says how many elements a scratch array has."""
    return f"{array.name}_size"


def elements(array: Array) -> str:
    """How many elements an array has, as an expression of sizes."""
    return " * ".join(_operand(side) for side in array.shape)


def row_bytes(array: Array, itemsize: int) -> str:
    """How many bytes a row has, as an expression of sizes."""
    return " * ".join([*map(_operand, array.shape[1:]), str(itemsize)])


def _operand(side: int | str) -> str:
    return str(side) if isinstance(side, int) or side.isidentifier() else f"({side})"
