"""The finished heatmap as nodes: a method's map, scaled to [0, 1], at the size asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxcam.contract import HEATMAP_SIZES
from onnxcam.errors import ExportError
from onnxcam.methods import DEFAULT_METHOD, find_method
from onnxcam_export.exposure import exposed_shape
from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.shapes import dims
from onnxcam_export.heatmap.enlarge import enlarge
from onnxcam_export.heatmap.finish import finish
from onnxcam_export.heatmap.methods import BUILDERS, LayerValues
from onnxcam_export.layers import Candidate

__all__ = ["BUILDERS", "Heatmap", "emit_heatmap", "parse_heatmap"]

Size = int | ir.SymbolicDim


@dataclass(frozen=True)
class Heatmap:
    """What is finished in the graph.

    Attributes:
        method: a key of :data:`onnxcam_export.heatmap.methods.BUILDERS`.
        size: `map`, the layer's own, or `input`, the picture input's.
    """

    method: str = DEFAULT_METHOD
    size: str = "map"


def parse_heatmap(emit: str, method: str | None, size: str | None) -> Heatmap | None:
    """The options of the heatmap; None where it is not what is emitted.

    Raises:
        ExportError: an option of the heatmap for a file that emits something else, or an unknown
            size.
        MethodError: an unknown method.
    """
    if emit != "heatmap":
        for name, value in (("method", method), ("heatmap size", size)):
            if value is not None:
                raise ExportError(
                    f"{name} {value!r}: only for a finished heatmap (emit 'heatmap'); of a file "
                    f"that emits '{emit}' the engine makes the map"
                )
        return None
    if size not in (None, *HEATMAP_SIZES):
        raise ExportError(f"heatmap size: expected one of {', '.join(HEATMAP_SIZES)}; got {size!r}")
    name = DEFAULT_METHOD if method is None else find_method(method).name
    return Heatmap(name, size or "map")


def emit_heatmap(
    op: Ops,
    layer: Candidate,
    grads: Sequence[ir.Value],
    per_image: int | None,
    heatmap: Heatmap,
    picture: ir.Value,
    layout: str,
) -> ir.Value:
    """Emit one layer's finished map, float32 [N, *sides], or [N, K, *sides] with `per_image` K.

    Args:
        op: collects the emitted nodes.
        layer: what is explained.
        grads: the gradient for each target, in the layer's layout.
        per_image: K, or None for results without its axis.
        heatmap: which map, and how large.
        picture: the picture input.
        layout: its layout, `NCHW` or `NHWC`.

    Raises:
        ExportError: the size of an input with another number of spatial axes than the layer.
    """
    values = LayerValues(op, layer, grads)
    finished = finish(op, BUILDERS[heatmap.method](op, values))
    shape = exposed_shape(layer)
    batch, sides = shape[0], shape[2:]
    targets = len(grads)
    if heatmap.size == "map":
        axis = [] if per_image is None else [targets]
        result = _laid_out(op, finished, layer, axis, sides)
    else:
        rank = len(dims(picture))
        spatial = [*range(1, rank - 1)] if layout == "NHWC" else [*range(2, rank)]
        if len(spatial) != len(sides):
            raise ExportError(
                f"heatmap size 'input': layer '{layer.layer.title}' has {len(sides)} spatial axes, "
                f"the input '{picture.name}' has {len(spatial)}; use heatmap size 'map'"
            )
        result = _laid_out(op, finished, layer, [targets], sides)
        result = enlarge(op, result, picture, spatial)
        if per_image is None:
            result = op.Squeeze(result, op.ints(1))
        assert picture.shape is not None
        sides = [picture.shape[i] for i in spatial]
    result.shape = ir.Shape([batch, *([] if per_image is None else [targets]), *sides])
    result.dtype = ir.DataType.FLOAT
    return result


def _laid_out(
    op: Ops,
    flat: ir.Value,
    layer: Candidate,
    targets: Sequence[int],
    sides: Sequence[Size],
) -> ir.Value:
    """[N, K, P] as [N, *targets, *sides]."""
    fixed = [side for side in sides if isinstance(side, int)]
    if len(fixed) == len(sides):
        return op.Reshape(flat, op.ints(-1, *targets, *fixed))
    spatial = [i for i in range(1, len(dims(layer.value))) if i != layer.channel_axis]
    own = op.Gather(op.Shape(layer.value), op.ints(*spatial))
    return op.Reshape(flat, op.Concat(op.ints(-1, *targets), own, axis=0))
