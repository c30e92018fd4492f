"""Tables of 256 bytes, in which a processor with AVX-512 VBMI looks up 64 indices at once.

It has an instruction (vpermi2b) that picks 64 bytes out of 128: two of them and a choice are a
table of 256. Other processors are faster with one load and one store a pixel; `at_once` says which
this is, and is a constant once compiled. As in `lanes`, each operation is also a NumPy function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from onnxcam.kernels import instructions, lanes
from onnxcam.kernels.byte_lanes import WIDTH, byte_lanes_type
from onnxcam.kernels.instructions import joined, picked
from onnxcam.kernels.lanes import LANES

_I1, _I8, _I32 = (ir.IntType(bits) for bits in (1, 8, 32))
_compiles_to = lanes.compiles_to


def _looked_up(builder: Any, indices: Any, *quarters: Any) -> Any:
    table, found = joined(builder, list(quarters)), ir.Constant(indices.type, ir.Undefined)
    for k in range(WIDTH):
        index = builder.zext(builder.extract_element(indices, _I32(k)), _I32)
        found = builder.insert_element(found, builder.extract_element(table, index), _I32(k))
    return found


@_compiles_to(
    lambda builder: instructions.call(builder, instructions.AT_ONCE, lambda _: _I1(0), ()),
    (),
    types.boolean,
)
def at_once() -> bool:
    """Whether `look_up` is faster than one lookup after the other."""
    return False


@_compiles_to(
    lambda builder, *operands: instructions.call(
        builder, instructions.LOOK_UP, _looked_up, operands
    ),
    (byte_lanes_type,) * 5,
    byte_lanes_type,
)
def chosen(indices: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """The bytes of 64 indices, from a table of 256 in quarters."""
    return np.concatenate([a, b, c, d])[indices]


def _interleave(which: int) -> Callable[..., Any]:
    places = range(WIDTH * which, WIDTH * (which + 1))  # of the 192 bytes

    def build(builder: Any, x: Any, y: Any, z: Any) -> Any:
        two = picked(builder, x, y, (at // 3 + WIDTH * (at % 3 == 1) for at in places))
        last = (WIDTH + at // 3 if at % 3 == 2 else k for k, at in enumerate(places))
        return picked(builder, two, z, last)

    @_compiles_to(build, (byte_lanes_type,) * 3, byte_lanes_type)
    def interleave(x: Any, y: Any, z: Any) -> Any:
        return np.stack([x, y, z], 1).reshape(-1)[WIDTH * which : WIDTH * (which + 1)]

    return interleave


# The bytes of 64 pixels' three channels, one pixel after the other: a third of them each.
interleave_0, interleave_1, interleave_2 = (_interleave(which) for which in range(3))


def _words(which: int) -> Callable[..., Any]:
    def build(builder: Any, low: Any, high: Any) -> Any:
        places = (at + k for at in range(LANES * which, LANES * (which + 1)) for k in (0, WIDTH))
        return builder.bitcast(
            picked(builder, low, high, places), ir.VectorType(ir.IntType(16), LANES)
        )

    @_compiles_to(build, (byte_lanes_type,) * 2)
    def words(low: Any, high: Any) -> Any:
        return (low | high.astype(np.uint16) << 8)[LANES * which : LANES * (which + 1)]

    return words


# Numbers of 16 bits from their lower and upper bytes: half of 64 each.
words_0, words_1 = (_words(which) for which in range(2))
