"""The library through ctypes: Python functions with the kernels' own names and arguments."""

from __future__ import annotations

import ctypes
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxcam.errors import InputError, OnnxcamError
from onnxcam.native.build_id import build_id, in_checkout, interface_id
from onnxcam.native.interface import PREFIX, functions, room, row_bytes
from onnxcam.native.table import SIZE_IN_BYTES, TABLE, Array, Kernel

if TYPE_CHECKING:
    from onnxcam.native.prepared import Prepared

_LIBRARY_NAMES = {"win32": "onnxcam.dll", "darwin": "libonnxcam.dylib"}
INSTALLED = Path(__file__).parent / "lib" / _LIBRARY_NAMES.get(sys.platform, "libonnxcam.so")

# ctypes takes 0.15 us for each argument, which is 3.3 us for the 21 of `overlay_jet`; packed into
# one block they take 0.6.
FORMATS = {"address": "Q", "whole": "q", "real": "d"}


class LibraryError(OnnxcamError):
    """The library is missing, can't be loaded, or was made from another table."""


class Library:
    """A loaded `libonnxcam`.

    Raises:
        LibraryError: no such file, not a library for this machine, or made from another table
            or, in a checkout, from other sources.
    """

    def __init__(self, path: Path = INSTALLED) -> None:
        self.path = path
        if not path.exists():
            raise LibraryError(f"library '{path}': no such file")
        try:
            self._library = ctypes.CDLL(str(path))
            found = self._text("build_id")
            self._call = self._library[PREFIX + "call"]
            self._call.argtypes = [ctypes.c_int32, ctypes.c_char_p]
        except (OSError, AttributeError) as error:
            raise LibraryError(f"library '{path}': cannot be loaded ({error})") from error
        if found.split("-")[0] != interface_id():
            raise LibraryError(f"library '{path}': was built from another table of kernels")
        if in_checkout() and found != build_id():
            raise LibraryError(f"library '{path}': was built from other sources than are here now")

    @property
    def version(self) -> str:
        """Of onnxcam, when the library was built."""
        return self._text("version")

    @property
    def variant(self) -> int:
        """Which variant runs: 0 is the plainest; on x86-64 1 is AVX2, 2 AVX-512."""
        return int(self._library[PREFIX + "variant"]())

    def set_variant(self, number: int) -> None:
        """Use another variant, in all threads; for tests and measurements.

        Raises:
            InputError: the library has none of this number, or the processor can't run it.
        """
        self._check(self._library[PREFIX + "set_variant"](ctypes.c_int32(number)), "set_variant")

    def function(self, kernel: Kernel) -> Callable[..., None]:
        """The function of a row: its visible parameters, arrays as NumPy's.

        It raises InputError for arrays of another dtype or shape than the row's, and where the
        library returns an error code; input arrays that are not contiguous are copied.
        """
        scope: dict[str, Any] = {"address_of": address_of, "byte_of": byte_of}
        scope |= {"refused": REFUSED, "has_rows": _has_rows}
        scope["check"] = self._check
        scope["work_space"] = work_space
        arguments = next(functions(kernel)).arguments
        scope["pack"] = struct.Struct("=" + "".join(FORMATS[a.packed] for a in arguments)).pack
        scope["call"] = self._call
        for array in kernel.arrays:
            fit = _Fit(kernel, array)
            scope |= {f"fit_{array.name}": fit.correct, f"dtype_{array.name}": fit.dtype}
        exec(_source(kernel), scope)  # made from our own table
        return scope[kernel.name]  # type: ignore[no-any-return]

    def prepare(
        self, kernel: Kernel, known: Mapping[str, Any], open: Mapping[str, Sequence[int]]
    ) -> Prepared:
        """Calls of a kernel whose arguments are known, but for some arrays of known shapes."""
        from onnxcam.native.prepared import Prepared

        return Prepared(self._call, kernel, known, open)

    def _text(self, name: str) -> str:
        function = self._library[PREFIX + name]
        function.restype = ctypes.c_char_p
        return bytes(function()).decode()

    def _check(self, code: int, name: str) -> None:
        if code:
            text = self._library[PREFIX + "error_text"]
            text.restype = ctypes.c_char_p
            raise InputError(f"{name}: {bytes(text(code)).decode()}")


# `array.ctypes.data` takes 1.4 us, the buffer's way 0.4; it wants a writeable, contiguous one, and
# to be refused takes 0.9.
byte_of = ctypes.c_char.from_buffer
address_of = ctypes.addressof
REFUSED = (TypeError, ValueError, BufferError)


def address(array: Any) -> int:
    """Where a contiguous array's memory begins."""
    try:
        return address_of(byte_of(array))
    except REFUSED:
        return int(array.ctypes.data)


class _Space(threading.local):
    """Each thread's work space, kept for the next call: none is allocated a frame."""

    size = 0
    address = 0
    block = bytearray()


_space = _Space()


def work_space(size: int) -> _Space:
    """At least so many bytes that are this thread's alone."""
    if _space.size < size:
        _space.block = bytearray(size)
        _space.size, _space.address = size, address_of(byte_of(_space.block))
    return _space


class _Fit:
    """What a parameter's array has to be, and the slow way of making it so."""

    def __init__(self, kernel: Kernel, array: Array) -> None:
        self.kernel = kernel
        self.array = array
        self.dtype = np.dtype(array.dtype)

    def correct(self, found: Any, shape: tuple[int, ...]) -> Any:
        """`found`, or a contiguous copy of it; InputError where neither will do."""
        array = self.array
        expected = f"{self.kernel.name}: {array.name}: expected {array.dtype} {list(shape)}"
        if not isinstance(found, np.ndarray) or found.dtype != self.dtype:
            kind = found.dtype if isinstance(found, np.ndarray) else type(found).__name__
            raise InputError(f"{expected}, got {kind}")
        if found.shape != shape:
            raise InputError(f"{expected}, got {list(found.shape)}")
        if array.role == "in":
            return np.ascontiguousarray(found)
        if found.flags.writeable and found.flags.c_contiguous:
            return found
        state = "contiguous" if found.flags.writeable else "writeable"
        raise InputError(f"{expected}, got one that is not {state}")


def _has_rows(array: Any) -> bool:
    """Whether the rows are contiguous and lie apart, in order."""
    inner = array[0]
    return bool(inner.flags.c_contiguous and array.strides[0] >= inner.nbytes)


def _source(kernel: Kernel) -> str:
    """Source of the Python function: sizes from shapes, a check of every array, the call.

    Its parameters are the kernel's without the work arrays: that space is taken from `work_space`.
    """
    names = [each.name for each in kernel.visible]
    return "\n".join([f"def {kernel.name}({', '.join(names)}):", *_lines(kernel)]) + "\n"


def _lines(kernel: Kernel) -> Iterator[str]:
    yield from size_lines(kernel)
    given = []
    for each in kernel.visible:
        if isinstance(each, Array):
            yield from _array_lines(each)
            given.append(f"{each.name}_at")
            if each.rows:
                given.append(f"{each.name}_stride")
        else:
            given.append(f"{'float' if each.dtype.startswith('float') else 'int'}({each.name})")
    if kernel.scratch:
        yield f"    space = work_space({room(kernel)})"
        given += ["space.address", "space.size"]
    given += kernel.size_names
    yield f"    code = call({TABLE.index(kernel)}, pack({', '.join(given)}))"
    yield "    if code:"
    yield f"        check(code, {kernel.name!r})"


def _array_lines(array: Array) -> Iterator[str]:
    """Lines that check an array and take its address: `byte_of` is refused one that is read-only
    or not contiguous, which only then is looked at (each look at `flags` takes 0.1 us)."""
    name = array.name
    shape = f"({''.join(f'{side}, ' for side in array.shape)})"
    yield f"    if {name}.dtype is not dtype_{name} or {name}.shape != {shape}:"
    yield f"        {name} = fit_{name}({name}, {shape})"
    tight = row_bytes(array, SIZE_IN_BYTES[array.dtype])
    if array.rows:
        yield f"    {name}_stride = {tight}"
    yield "    try:"
    yield f"        {name}_at = address_of(byte_of({name}))"
    yield "    except refused:"
    if array.rows:
        usable = f"{name}.flags.writeable and " if array.role != "in" else ""
        yield f"        if {usable}not {name}.flags.c_contiguous and has_rows({name}):"
        yield f"            {name}_stride = {name}.strides[0]"
        yield "        else:"
        yield f"            {name} = fit_{name}({name}, {shape})"
    else:
        yield f"        {name} = fit_{name}({name}, {shape})"
    yield f"        {name}_at = {name}.ctypes.data"


def size_lines(kernel: Kernel) -> Iterator[str]:
    """Lines of source that take the sizes from the arrays' shapes."""
    known: set[str] = set()
    for array in kernel.arrays:
        new = [side for side in array.shape if side in kernel.size_names and side not in known]
        if new:
            yield f"    shape = {array.name}.shape"
        for side in new:
            yield f"    {side} = shape[{array.shape.index(side)}]"
            known.add(str(side))
