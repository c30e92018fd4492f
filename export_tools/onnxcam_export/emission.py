"""What exporting adds to a graph: the choice of targets, gradients, and the outputs for them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxcam import contract as names
from onnxcam_export.exposure import channels_first_of, exposed_shape, grid_only
from onnxcam_export.gradient import Ops, gradient
from onnxcam_export.gradient.ops import names_in
from onnxcam_export.gradient.shapes import dims
from onnxcam_export.layers import Candidate
from onnxcam_export.merging import merge_equal
from onnxcam_export.rewrites import REWRITES, prune
from onnxcam_export.score import Score
from onnxcam_export.score_of import NEW_SCORES
from onnxcam_export.stacking import stack_products
from onnxcam_export.target import one_hot_seed, resolve_targets


def emit(
    model: ir.Model,
    picture: ir.Value,
    scored: Score,
    layers: Sequence[Candidate],
    *,
    kind: str = "gradient",
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
        kind: what is put out, `gradient` or `weights` (the mean of the gradient over space).
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
        outputs += _layer_outputs(op, layer, grads, index, kind, per_image)
    chosen = [v for target in targets for v in (target.index, target.in_range)]
    merge_equal(op, keep=[*outputs, *seeds, *chosen])
    # Outputs exist before the rewrites, which may replace the nodes that gradients come from. One
    # rewrite is through for every target before the next begins: they look for what rules write.
    for rewrite in REWRITES:
        for target, seed in zip(targets, seeds, strict=True):
            rewrite(op, target, seed)
    stack_products(op)
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
    activation = _float32(op, channels_first_of(op, layer.value, layer), layer)
    if kind == "weights":
        base, grads = names.WEIGHTS, [_spatial_mean(op, layer, grad) for grad in grads]
        shape_of_grad = shape[:2]
    else:
        base, grads = names.GRADIENT, [channels_first_of(op, grad, layer) for grad in grads]
        grads = [_float32(op, grad, layer) for grad in grads]
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


def _float32(op: Ops, value: ir.Value, layer: Candidate) -> ir.Value:
    same = layer.value.dtype == ir.DataType.FLOAT
    return value if same else op.Cast(value, to=ir.DataType.FLOAT)


def _spatial_mean(op: Ops, layer: Candidate, grad: ir.Value) -> ir.Value:
    """The mean over all axes but the batch and the channels, float32 [N, C]."""
    rank = len(dims(layer.value))
    axes = [axis for axis in range(1, rank) if axis != layer.channel_axis]
    source = grid_only(op, grad, layer)
    while (node := source.producer()) is not None and node.op_type == "Expand":
        # The mean of what was repeated is the mean of what there was.
        inner = node.inputs[0]
        if inner is None or _known_rank(inner) != rank:
            break
        source = inner
    return op.ReduceMean(_float32(op, source, layer), op.ints(*axes), keepdims=0)


def _known_rank(value: ir.Value) -> int | None:
    """The rank of an emitted value, where it is easily said."""
    if value.shape is not None:
        return len(value.shape)
    node = value.producer()
    if node is None:
        return None
    if node.op_type == "Reshape":
        shape = node.inputs[1]
        return None if shape is None or shape.shape is None else _fixed(shape.shape[0])
    if node.op_type == "ReduceProd" and len(node.inputs) == 1:
        return 0  # the number of pixels
    if node.op_type in ("Mul", "Div", "Add", "Sub", "Where", "Neg", "Cast"):
        ranks = [_known_rank(v) for v in node.inputs if v is not None]
        return None if None in ranks else max(rank for rank in ranks if rank is not None)
    return None


def _fixed(size: int | ir.SymbolicDim) -> int | None:
    return size if isinstance(size, int) else None


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
