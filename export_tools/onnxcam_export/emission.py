"""What exporting adds to a graph: the choice of targets, gradients, and the outputs for them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxcam import contract as names
from onnxcam_export.exposure import channels_first_of, exposed_shape, float32_of
from onnxcam_export.gradient import Ops, gradient
from onnxcam_export.gradient.ops import names_in
from onnxcam_export.gradient.shapes import dims
from onnxcam_export.heatmap import Heatmap, emit_heatmap
from onnxcam_export.layers import Candidate
from onnxcam_export.merging import merge_equal
from onnxcam_export.rewrites import REWRITES, prune
from onnxcam_export.score import Score
from onnxcam_export.score_of import NEW_SCORES
from onnxcam_export.spatial_mean import spatial_mean
from onnxcam_export.square_weights import part_square_weights
from onnxcam_export.stacking import stack_products
from onnxcam_export.target import one_hot_seed, resolve_targets


def emit(
    model: ir.Model,
    picture: ir.Value,
    scored: Score,
    layers: Sequence[Candidate],
    *,
    kind: str = "gradient",
    heatmap: Heatmap | None = None,
    layout: str = "NCHW",
    target_input: bool = True,
    per_image: int | None = None,
) -> None:
    """Put activations and gradients of some layers into a graph.

    With K targets an image the gradient is written down K times, one target each; what does not
    depend on the target (masks, factors) stands there once, and so does the model itself.

    Args:
        model: the plain model; the inputs and outputs of the contract are added to it.
        picture: its picture input.
        scored: what is differentiated.
        layers: by which activations.
        kind: what is put out: `gradient`, `weights` (the mean of the gradient over space) or
            `heatmap`.
        heatmap: which one, for the kind of that name.
        layout: of the picture input, `NCHW` or `NHWC`.
        target_input: whether there is an input `cam_target`.
        per_image: K, targets an image; None for an input [N] and results without an axis K.
    """
    graph = model.graph
    forward = list(graph)
    op = Ops(names_in(graph), model.opset_imports[""])
    batch = picture.shape[0] if picture.shape is not None else ir.SymbolicDim("batch")
    value = scored.value
    inputs: list[ir.Value] = []
    outputs: list[ir.Value] = []
    if scored.of != "class":
        value, inputs = NEW_SCORES[scored.of].emit(
            op, scored.value, scored.classes, batch, scored.channel_axis
        )
        forward += op.nodes
        compared = value
        exposed = op.Cast(value, to=ir.DataType.FLOAT)
        outputs.append(_named(exposed, names.SCORE, [batch, scored.classes]))
    else:
        compared = next(v for v in graph.outputs if v.name == scored.output.name)
    if scored.append is not None:
        value = _append(op, scored)
        forward += [n for n in op.nodes if value in n.outputs]
    cam_target, targets = resolve_targets(
        op, compared, scored.classes, batch, target_input, per_image
    )
    seeds = [one_hot_seed(op, target, value) for target in targets]
    for index, layer in enumerate(layers):
        grads = [gradient(op, forward, value, seed, layer.value) for seed in seeds]
        if heatmap is not None:
            made = emit_heatmap(op, layer, grads, per_image, heatmap, picture, layout)
            made.name = names.output_name(names.HEATMAP, index)
            outputs.append(made)
        else:
            outputs += _layer_outputs(op, layer, grads, index, kind, per_image)
    chosen = [v for target in targets for v in (target.index, target.in_range)]
    merge_equal(op, keep=[*outputs, *seeds, *chosen])
    # Outputs exist before the rewrites, which may replace the nodes that gradients come from. One
    # rewrite is through for every target before the next begins: they look for what rules write.
    for rewrite in REWRITES:
        for target, seed in zip(targets, seeds, strict=True):
            rewrite(op, target, seed)
    stack_products(op)
    part_square_weights(op, forward)
    prune(op, set(outputs))
    graph.extend(op.nodes)
    graph.sort()  # rewrites append where they should insert
    for constant in op.initializers.values():
        graph.register_initializer(constant)
    graph.inputs.extend([*inputs, *([cam_target] if cam_target is not None else [])])
    graph.outputs.extend(outputs)


def _layer_outputs(
    op: Ops, layer: Candidate, grads: list[ir.Value], index: int, kind: str, per_image: int | None
) -> list[ir.Value]:
    """`cam_activation` and `cam_gradient` or `cam_weights` of one layer."""
    shape = exposed_shape(layer)
    activation = float32_of(op, channels_first_of(op, layer.value, layer), layer)
    if kind == "weights":
        base, grads = names.WEIGHTS, [spatial_mean(op, layer, grad) for grad in grads]
        shape_of_grad = shape[:2]
    else:
        base, grads = names.GRADIENT, [channels_first_of(op, grad, layer) for grad in grads]
        grads = [float32_of(op, grad, layer) for grad in grads]
        shape_of_grad = list(shape)
    result = grads[0]
    if per_image is not None:
        axis = op.ints(1)
        columns = [op.Unsqueeze(grad, axis) for grad in grads]
        result = columns[0] if len(columns) == 1 else op.Concat(*columns, axis=1)
        shape_of_grad.insert(1, per_image)
    return [
        _named(op.Identity(activation), names.output_name(names.ACTIVATION, index), shape),
        _named(op.Identity(result), names.output_name(base, index), shape_of_grad),
    ]


def _append(op: Ops, scored: Score) -> ir.Value:
    """Emit the probability of a model that ends in logits."""
    sizes = dims(scored.value)
    axis = next((i for i, size in enumerate(sizes) if i > 0 and size != 1), 1)
    logit = scored.value
    value = op.Softmax(logit, axis=axis) if scored.append == "softmax" else op.Sigmoid(logit)
    value.shape = logit.shape
    return value


def _named(value: ir.Value, name: str, shape: Sequence[int | ir.SymbolicDim]) -> ir.Value:
    value.name = name
    value.dtype = ir.DataType.FLOAT
    value.shape = ir.Shape(shape)
    return value
