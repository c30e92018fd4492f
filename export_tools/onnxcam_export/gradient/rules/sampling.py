"""Linear maps along single axes: resampling, padding by the picture's own pixels, repetition.

Where the size of an axis is fixed such an operator is a matrix for that axis, and its adjoint the
product with the same matrix: exact, and as many products as the forward sampling has taps when
the matrix is small, as it is behind a layer that is worth explaining.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx.helper as oh
import onnx_ir as ir
import onnxruntime as ort

from onnxcam.errors import ExportError, UnsupportedOpError
from onnxcam_export.gradient.ops import Grad, Ops
from onnxcam_export.gradient.rules.arithmetic import _x, _y
from onnxcam_export.gradient.shapes import (
    average_pool,
    constant,
    constant_ints,
    dims,
    ints_attribute,
    rank,
    string_attribute,
)

Matrix = npt.NDArray[Any]


def along_axis(op: Ops, dy: ir.Value, matrix: Matrix, axis: int, size: int) -> ir.Value:
    """The product of `dy` along `axis` with matrix [length of dy, length of the result].

    Written as what costs least: nothing, a Gather where every result is one element, a MatMul.
    """
    if matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix))):
        return dy
    if _is_selection(matrix):
        return op.Gather(dy, op.const(matrix.argmax(axis=0).astype(np.int64)), axis=axis)
    if axis == size - 2:
        return op.MatMul(op.const(np.ascontiguousarray(matrix.T), dy.dtype), dy)
    weight = op.const(matrix, dy.dtype)
    if axis == size - 1:
        return op.MatMul(dy, weight)
    # Swapped with the last axis, not rotated to it: onnxruntime 1.31 crashes on float16 when it
    # fuses a rotating Transpose into a MatMul.
    swap = list(range(size))
    swap[axis], swap[-1] = swap[-1], swap[axis]
    return op.Transpose(op.MatMul(op.Transpose(dy, perm=swap), weight), perm=swap)


def _is_selection(matrix: Matrix) -> bool:
    ones = matrix == 1
    return bool((ones.sum(axis=0) == 1).all() and ones.sum() == np.count_nonzero(matrix))


def pad_by_pixels(op: Ops, n: ir.Node, dy: ir.Value) -> ir.Value:
    """Modes reflect, edge and wrap: each padded pixel is one of the input's."""
    mode = string_attribute(n, "mode", "constant")
    sizes = dims(_x(n))
    pads = constant_ints(n, 1) or []
    axes = [axis % len(sizes) for axis in constant_ints(n, 3) or range(len(sizes))]
    for i, axis in enumerate(axes):
        begin, end = pads[i], pads[i + len(axes)]
        length = sizes[axis]
        if not begin and not end:
            continue
        if length is None or begin < 0 or end < 0:
            raise UnsupportedOpError(
                f"mode '{mode}' with negative pads, or along an axis whose size is not fixed, has "
                "no derivative here"
            )
        source = np.pad(np.arange(length), (begin, end), mode)  # type: ignore[call-overload]
        matrix = np.zeros((len(source), length))
        matrix[np.arange(len(source)), source] = 1
        dy = along_axis(op, dy, matrix, axis, len(sizes))
    return dy


def _resize(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    """Separable: the matrix of each axis, as onnxruntime itself resizes a unit matrix."""
    x, y = _x(n), _y(n)
    size = rank(x)
    axes = [axis % size for axis in ints_attribute(n, "axes") or range(size)]
    scales = _numbers(n, 2)
    roi = _numbers(n, 1)
    if string_attribute(n, "keep_aspect_ratio_policy", "stretch") != "stretch":
        raise UnsupportedOpError("keep_aspect_ratio_policy has no derivative here")
    attributes = tuple(
        (name, attribute.value)
        for name, attribute in n.attributes.items()
        if name not in ("axes", "extrapolation_value", "keep_aspect_ratio_policy")
    )
    blocks = {}
    for i, axis in enumerate(axes):
        scale = scales[i] if scales else None
        crop = (roi[i], roi[i + len(axes)]) if roi else None
        before, after = dims(x)[axis], dims(y)[axis]
        if scale == 1 and crop in (None, (0, 1)):
            continue
        if before is not None and before == after and scale is None and crop in (None, (0, 1)):
            continue
        if axis == 0 and scale is None and (before is None or after is None):
            continue  # sizes put together from the batch's own: nobody resizes along the batch
        if before is None or after is None:
            if scale is None or scale != int(scale):
                raise ExportError(
                    f"Resize '{n.name}': the size of axis {axis} is not fixed; fix the model's "
                    "input size first"
                )
            # An open size: what holds for a small one of the same whole scale, if it is blocks.
            matrix = _weights(4, 4 * int(scale), scale, crop, attributes)
        else:
            matrix = _weights(before, after, scale, crop, attributes)
        block = matrix.shape[0] // matrix.shape[1]
        if block > 1 and _is_blocks(matrix, block):
            blocks[axis] = block
        elif before is None or after is None:
            raise ExportError(
                f"Resize '{n.name}': the size of axis {axis} is not fixed; fix the model's "
                "input size first"
            )
        else:
            dy = along_axis(op, dy, matrix, axis, size)
    return [_block_sums(op, dy, blocks, size)] if blocks else [dy]


def _is_blocks(matrix: Matrix, block: int) -> bool:
    return np.array_equal(matrix, np.kron(np.eye(matrix.shape[1]), np.ones((block, 1))))


def _block_sums(op: Ops, dy: ir.Value, blocks: dict[int, int], size: int) -> ir.Value:
    """Nearest by whole factors repeats each pixel: sum over its copies."""
    if min(blocks) >= 2:
        kernel = [blocks.get(axis, 1) for axis in range(2, size)]
        mean = average_pool(op, dy, kernel_shape=kernel, strides=kernel)
        return op.Mul(mean, float(np.prod(kernel)))
    end = op.ints(np.iinfo(np.int64).max)
    for axis, block in blocks.items():  # every block-th element, added up
        parts = [
            op.Slice(dy, op.ints(first), end, op.ints(axis), op.ints(block))
            for first in range(block)
        ]
        dy = op.Sum(*parts)
    return dy


def _numbers(n: ir.Node, position: int) -> list[float]:
    if position >= len(n.inputs) or n.inputs[position] is None:
        return []
    array = constant(n.inputs[position])
    if array is None:
        raise ExportError(
            f"{n.op_type} '{n.name}': input {position} is computed at run time; fix the model's "
            "input size first"
        )
    return [float(number) for number in array.reshape(-1)]


@lru_cache(maxsize=256)
def _weights(
    before: int,
    after: int,
    scale: float | None,
    crop: tuple[float, float] | None,
    attributes: tuple[tuple[str, Any], ...],
) -> Matrix:
    """Matrix [after, before] of a resize along one axis."""
    unit = np.eye(before, dtype=np.float32)[:, None, None, :]
    names = ["x", "", "", ""]
    initializers = []
    if crop is not None:
        names[1] = "roi"
        initializers.append(("roi", np.array([0, 0, 0, crop[0], 1, 1, 1, crop[1]], np.float32)))
    if scale is not None:
        names[2] = "scales"
        initializers.append(("scales", np.array([1, 1, 1, scale], np.float32)))
    else:
        names[3] = "sizes"
        initializers.append(("sizes", np.array([before, 1, 1, after], np.int64)))
    node = oh.make_node("Resize", names, ["y"], **dict(attributes))
    value = oh.make_tensor_value_info
    graph = oh.make_graph(
        [node], "resize", [value("x", 1, unit.shape)], [value("y", 1, None)],
        [oh.make_tensor(k, 1 if v.dtype == np.float32 else 7, v.shape, v) for k, v in initializers],
    )  # fmt: skip
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=8)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    resized = session.run(None, {"x": unit})[0]
    return np.asarray(resized[:, 0, 0, :].T, np.float64)


def _tile(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    """Sum over the copies: [.., copies, length, ..]."""
    repeats = constant_ints(n, 1) or []
    sizes = dims(_x(n))
    shape: list[int] = []
    summed = []
    for size, copies in zip(sizes, repeats, strict=True):
        if copies != 1:
            summed.append(len(shape))
            shape.append(copies)
        shape.append(-1 if size is None else size)
    if not summed:
        return [dy, None]
    if shape.count(-1) > 1:
        raise ExportError(
            f"Tile '{n.name}': more than one size of its input is not fixed; fix them first"
        )
    return [op.ReduceSum(op.Reshape(dy, op.ints(*shape)), op.ints(*summed), keepdims=0), None]


TABLE = {
    ("", "Resize"): _resize,
    ("", "Tile"): _tile,
}
