"""From a row of the table to its C functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from onnxcam.native.table import SIZE_IN_BYTES, Array, Kernel, Parameter

PREFIX = "onnxcam_"
SCRATCH, ROOM = "scratch", "scratch_size"
CACHE_LINE = 64  # bytes; work arrays begin at multiples of it

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


class Argument(NamedTuple):
    """An argument in C: `kind` is "pointer", "stride", "number", "size", "scratch" or "room".

    Scratch is the one block of work space, room its size in bytes. `source` is the parameter that
    a pointer, stride or number belongs to.
    """

    name: str
    kind: str
    dtype: str
    source: Parameter | None = None

    @property
    def packed(self) -> str:
        """Its member of the header's union of values."""
        if self.kind in ("pointer", "scratch"):
            return "address"
        return "real" if self.dtype.startswith("float") else "whole"

    @property
    def declaration(self) -> str:
        """As in a C prototype."""
        if self.kind == "scratch":
            return f"void *{self.name}"
        kind = C_NAMES[self.dtype]
        if self.kind != "pointer":
            return f"{kind} {self.name}"
        assert isinstance(self.source, Array)
        return f"{'const ' * (self.source.role == 'in')}{kind} *{self.name}"


class Function(NamedTuple):
    """A C function: `returns` is a dtype; `tells_room` if it returns how much work space is due."""

    name: str
    returns: str
    arguments: tuple[Argument, ...]
    tells_room: bool = False


def functions(kernel: Kernel) -> Iterator[Function]:
    """The functions of a row: the kernel's own, then what tells its work space if it has any.

    The kernel's own has the kernel's parameters in order, the work space, then the sizes.
    """
    sizes = [Argument(name, "size", "size") for name in kernel.size_names]
    room = []
    if kernel.scratch:
        room = [Argument(SCRATCH, "scratch", "uint8"), Argument(ROOM, "room", "size")]
    yield Function(PREFIX + kernel.name, "int32", (*_arguments(kernel), *room, *sizes))
    if kernel.scratch:
        yield Function(f"{PREFIX}{kernel.name}_{SCRATCH}", "size", tuple(sizes), tells_room=True)


def _arguments(kernel: Kernel) -> Iterator[Argument]:
    for each in kernel.visible:
        if not isinstance(each, Array):
            yield Argument(each.name, "number", each.dtype, each)
            continue
        yield Argument(each.name, "pointer", each.dtype, each)
        if each.rows:
            yield Argument(stride_name(each), "stride", "size", each)


def prototype(function: Function, name: str | None = None) -> str:
    """The C declaration, without the semicolon."""
    given = ", ".join(each.declaration for each in function.arguments)
    return f"{C_NAMES[function.returns]} {name or function.name}({given})"


def stride_name(array: Array) -> str:
    """The name of an array's row stride."""
    return f"{array.name}_stride"


def elements(array: Array) -> str:
    """How many elements an array has, as an expression of sizes."""
    return " * ".join(_operand(side) for side in array.shape)


def places(kernel: Kernel) -> Iterator[tuple[Array, str]]:
    """The work arrays, and where in the work space they lie: bytes, an expression of sizes."""
    place = "0"
    for array in kernel.scratch:
        yield array, place
        place += f" + {_padded_bytes(array)}"


def room(kernel: Kernel) -> str:
    """How many bytes of work space are due, wherever it begins; an expression of sizes."""
    return " + ".join([str(CACHE_LINE - 1), *map(_padded_bytes, kernel.scratch)])


def _padded_bytes(array: Array) -> str:
    size = f"{elements(array)} * {SIZE_IN_BYTES[array.dtype]}"
    return f"({size} + {CACHE_LINE - 1}) // {CACHE_LINE} * {CACHE_LINE}"


def row_bytes(array: Array, itemsize: int) -> str:
    """How many bytes a row has, as an expression of sizes."""
    return " * ".join([*map(_operand, array.shape[1:]), str(itemsize)])


def _operand(side: int | str) -> str:
    return str(side) if isinstance(side, int) or side.isidentifier() else f"({side})"
