"""The mean over space of a dense layer's gradient needs only the mean of the weights over space.

Grad-CAM's weights are the mean of the gradient over h and w, a mean commutes with linear maps, and
where Flatten and a dense layer follow the activation the gradient is a product with all their
weights (VGG16: 25088 x 4096, 411 MB read for every map). Averaged over the pixels at export, they
are 512 x 4096. A MaxPool between the two only moves values: its scatter does not change a sum.

VGG16 at 224 px, `emit="weights"` over plain, 2 threads: 1.03; the whole gradient 1.07.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.shapes import (
    constant,
    float_attribute,
    int_attribute,
    ints_attribute,
)
from onnxcam_export.rewrites.reading import averaged_axes, producer_of
from onnxcam_export.target import Target


@dataclass(frozen=True)
class _Found:
    """mean = scale * Gemm(grad, weight averaged over `axes` of its features shaped `shape`)."""

    gemm: ir.Node
    shape: list[int]
    axes: list[int]
    scale: float


def mean_of_dense(op: Ops, target: Target, seed: ir.Value) -> None:
    """Replace ReduceMean(...(Gemm(grad, W))) by Gemm(grad, mean of W)."""
    del target, seed
    for node in list(op.nodes):
        if (found := _find(node)) is not None:
            op.replace(node, partial(_averaged, op, found))


def _find(mean: ir.Node) -> _Found | None:
    reduced = averaged_axes(mean)
    if reduced is None:
        return None
    scale = 1.0
    node = producer_of(mean)
    while node is not None:
        if node.op_type == "Transpose":
            perm = ints_attribute(node, "perm") or []
            reduced = [perm[axis] for axis in reduced]
            node = producer_of(node)
        elif (pooled := _scattered(node)) is not None:
            shape = _shape(node)
            if shape is None or sorted(reduced) != list(range(2, len(shape))):
                return None
            node = pooled
            inner = _shape(_through_transposes(node))
            if inner is None:
                return None
            scale *= _pixels(inner, _before_transposes(node, reduced)) / _pixels(shape, reduced)
        else:
            break
    return _of_gemm(node, reduced, scale)


def _of_gemm(node: ir.Node | None, reduced: list[int], scale: float) -> _Found | None:
    if node is None or node.op_type != "Reshape" or 0 in reduced:
        return None
    shape, gemm = _shape(node), producer_of(node)
    if shape is None or gemm is None or gemm.op_type != "Gemm":
        return None
    weight = constant(gemm.inputs[1])
    if weight is None or int_attribute(gemm, "transA", 0):
        return None
    if weight.shape[0 if int_attribute(gemm, "transB", 0) else 1] != np.prod(shape[1:]):
        return None  # a dense layer at every position: its rows are not images
    if len(shape) - 1 - len(reduced) != 1:
        return None
    return _Found(gemm, shape[1:], [axis - 1 for axis in reduced], scale)


def _averaged(op: Ops, found: _Found) -> ir.Value:
    gemm = found.gemm
    weight = constant(gemm.inputs[1])
    assert weight is not None
    trans = int_attribute(gemm, "transB", 0)
    features_last = weight.T if trans else weight  # [K, features]
    cube = features_last.reshape(-1, *found.shape)
    mean = cube.mean(axis=tuple(axis + 1 for axis in found.axes), dtype=np.float64) * found.scale
    alpha = float_attribute(gemm, "alpha", 1.0)
    dtype = gemm.inputs[1].dtype if gemm.inputs[1] is not None else None
    return op.Gemm(gemm.inputs[0], op.const(mean, dtype), alpha=alpha)


def _shape(node: ir.Node | None) -> list[int] | None:
    """The constant shape that a Reshape gives, the batch first."""
    if node is None or node.op_type != "Reshape":
        return None
    array = constant(node.inputs[1])
    if array is None or array.ndim != 1:
        return None
    sizes = [int(size) for size in array.reshape(-1)]
    return None if min(sizes[1:], default=0) < 1 else sizes


def _scattered(reshape: ir.Node) -> ir.Node | None:
    """What a MaxPool's gradient scatters, if this is one: Reshape(ScatterElements(0, i, dy))."""
    if reshape.op_type != "Reshape":
        return None
    scatter = producer_of(reshape)
    if scatter is None or scatter.op_type != "ScatterElements":
        return None
    zeros, flat = producer_of(scatter), producer_of(scatter, 2)
    if zeros is None or zeros.op_type != "ConstantOfShape" or flat is None:
        return None
    return producer_of(flat) if flat.op_type == "Reshape" else None


def _through_transposes(node: ir.Node | None) -> ir.Node | None:
    while node is not None and node.op_type == "Transpose":
        node = producer_of(node)
    return node


def _before_transposes(node: ir.Node | None, axes: list[int]) -> list[int]:
    """The axes, seen from the tensor in front of a chain of Transposes."""
    while node is not None and node.op_type == "Transpose":
        perm = ints_attribute(node, "perm") or []
        axes = [perm[axis] for axis in axes]
        node = producer_of(node)
    return axes


def _pixels(shape: list[int], axes: list[int]) -> int:
    return int(np.prod([shape[axis] for axis in axes]))
