"""What the functions of the library return: a table."""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """A return value: its number, its name in C, and what it means."""

    number: int
    name: str
    text: str


OK = Code(0, "ONNXCAM_OK", "no error")
NULL = Code(1, "ONNXCAM_ERROR_NULL", "a pointer is null")
ALIGNMENT = Code(2, "ONNXCAM_ERROR_ALIGNMENT", "a pointer is not aligned to its type")
SIZE = Code(3, "ONNXCAM_ERROR_SIZE", "a size is zero, negative, or outside of its limits")
STRIDE = Code(4, "ONNXCAM_ERROR_STRIDE", "a row stride is smaller than a row, or splits an element")
FINITE = Code(5, "ONNXCAM_ERROR_FINITE", "an array that has to be finite holds NaN or infinity")
VALUE = Code(6, "ONNXCAM_ERROR_VALUE", "a number is NaN or outside of its limits")
SCRATCH = Code(7, "ONNXCAM_ERROR_SCRATCH", "the scratch memory is too small")
VARIANT = Code(8, "ONNXCAM_ERROR_VARIANT", "this processor or this build lacks the variant")

CODES = (OK, NULL, ALIGNMENT, SIZE, STRIDE, FINITE, VALUE, SCRATCH, VARIANT)
