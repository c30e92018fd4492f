"""Derivatives of small graphs: by the project's rules, and by central differences in float64.

The forward graph is evaluated by onnx's reference evaluator, which knows nothing of the rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import onnx_ir as ir
import onnxruntime as ort
import scipy.special
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_grid_sample import GridSample as ReferenceGridSample

from onnxcam_export.gradient import Ops, gradient
from onnxcam_export.gradient.ops import FLOATS, names_in
from onnxcam_export.loading import prepare

# Outputs that are no floats.
_INTEGERS = {("TopK", 1): onnx.TensorProto.INT64, ("MaxPool", 1): onnx.TensorProto.INT64}


@dataclass(frozen=True)
class Case:
    """One operator with its inputs; float inputs in `active` are differentiated, all by default.

    `constants` are positions that become initializers (as weights, axes and shapes are).
    """

    op_type: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    active: tuple[int, ...] | None = None
    constants: tuple[int, ...] = ()
    domain: str = ""
    outputs: int = 1
    opset: int = 18
    note: str = ""
    dynamic: bool = False  # leave every dimension open
    in_onnxruntime: bool = True  # False: onnxruntime's CPU provider has no such kernel
    tolerance: float = 1e-6
    in_reference: bool = True  # False: the reference evaluator cannot run the gradient's graph

    @property
    def id(self) -> str:
        return f"{self.op_type}-{self.note}" if self.note else self.op_type


def forward_model(case: Case, dtype: int) -> onnx.ModelProto:
    inputs, initializers, names = [], [], []
    numpy_dtype = oh.tensor_dtype_to_np_dtype(dtype)
    for position, array in enumerate(case.inputs):
        if array is None:
            names.append("")
            continue
        name = f"x{position}"
        names.append(name)
        is_float = array.dtype.kind == "f" and array.dtype != np.float32  # float32: Resize's scales
        array = array.astype(numpy_dtype) if is_float else array
        if position in case.constants or not is_float:
            initializers.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        else:
            shape = [None] * array.ndim if case.dynamic else array.shape
            inputs.append(oh.make_tensor_value_info(name, dtype, shape))
    outputs = [f"y{i}" for i in range(case.outputs)]
    node = oh.make_node(
        case.op_type, names, outputs, name="node", domain=case.domain, **case.attributes
    )
    graph = oh.make_graph(
        [node],
        "case",
        inputs,
        [
            oh.make_tensor_value_info(name, _INTEGERS.get((case.op_type, i), dtype), None)
            for i, name in enumerate(outputs)
        ],
        initializers,
    )
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", case.opset)], ir_version=10)


def with_gradients(forward: onnx.ModelProto, active: list[str]) -> onnx.ModelProto:
    """The forward graph with an input `v<i>` per output and an output `d<name>` per input.

    Every output y_i is multiplied by v_i and summed, so one gradient covers them all.
    """
    proto = ir.to_proto(graph_with_gradients(forward, active))
    del proto.graph.value_info[:]
    return proto


def graph_with_gradients(forward: onnx.ModelProto, active: list[str]) -> ir.Model:
    """The same, with what is known of its values."""
    forward = onnx.ModelProto.FromString(forward.SerializeToString())
    model = prepare(forward)
    graph = model.graph
    op = Ops(names_in(graph), model.opset_imports[""])
    total, seeds = None, []
    for number, output in enumerate(list(graph.outputs)):
        if output.dtype not in FLOATS:
            continue
        seed = ir.Value(name=f"v{number}", shape=output.shape, type=output.type)
        seeds.append(seed)
        product = op.Mul(output, seed)
        product.shape = output.shape
        part = op.ReduceSum(product, keepdims=0)
        part.shape = ir.Shape([])
        if total is not None:
            part = op.Add(total, part)
            part.shape = ir.Shape([])
        total = part
    one = op.const(np.array(1.0), total.dtype)
    forward_nodes = [*graph, *op.nodes]
    grads = []
    for name in active:
        value = next(v for v in graph.inputs if v.name == name)
        grad = op.Identity(gradient(op, forward_nodes, total, one, value))
        grad.name, grad.shape = f"d{name}", value.shape
        grads.append(grad)
    graph.extend(op.nodes)
    for value in op.initializers.values():
        graph.register_initializer(value)
    graph.inputs.extend(seeds)
    graph.outputs.extend(grads)
    return model


def directional_errors(case: Case, seed: int = 0, step: float = 1e-6) -> dict[str, float]:
    """Per differentiated input: |<dx, d> - central difference| / norm of the summed products."""
    rng = np.random.default_rng(seed)
    forward = forward_model(case, onnx.TensorProto.DOUBLE)
    names = [i.name for i in forward.graph.input]
    positions = case.active if case.active is not None else [int(n[1:]) for n in names]
    active = [f"x{p}" for p in positions]
    feed = {n: case.inputs[int(n[1:])].astype(np.float64) for n in names}
    evaluate = ReferenceEvaluator(forward, new_ops=EXACT)
    ys = [np.asarray(y) for y in evaluate.run(None, feed)]
    seeds = {f"v{i}": rng.standard_normal(y.shape) for i, y in enumerate(ys) if y.dtype.kind == "f"}
    proto = with_gradients(forward, active)
    wanted = [f"d{n}" for n in active]
    if case.in_reference:
        found = ReferenceEvaluator(proto, new_ops=EXACT).run(wanted, feed | seeds)
    else:
        found = run_float32(case, active, feed | seeds)
    grads = dict(zip(wanted, found, strict=True))

    def total(inputs: dict[str, np.ndarray]) -> float:
        return sum(
            float((np.asarray(y) * seeds[f"v{i}"]).sum())
            for i, y in enumerate(evaluate.run(None, inputs))
            if f"v{i}" in seeds
        )

    errors = {}
    for name in active:
        assert grads[f"d{name}"].shape == feed[name].shape, (name, grads[f"d{name}"].shape)
        worst = 0.0
        for _ in range(3):
            direction = rng.standard_normal(feed[name].shape)
            ahead = total(feed | {name: feed[name] + step * direction})
            behind = total(feed | {name: feed[name] - step * direction})
            numerical = (ahead - behind) / (2 * step)
            products = grads[f"d{name}"] * direction
            scale = float(np.sqrt((products**2).sum())) or 1.0
            worst = max(worst, abs(float(products.sum()) - numerical) / scale)
        errors[name] = worst
    if case.in_onnxruntime:
        errors |= _runtime_errors(case, active, feed, seeds, grads)
    return errors


def _runtime_errors(case, active, feed, seeds, grads) -> dict[str, float]:
    """The same gradient in float32 by onnxruntime, which is what users run."""
    found = run_float32(case, active, feed | seeds)
    errors = {}
    for name, value in zip(active, found, strict=True):
        expected = grads[f"d{name}"]
        largest = float(np.abs(expected).max()) or 1.0
        # 1e-2: float32 against float64, brought to the scale of the numerical comparison
        errors[f"{name} in onnxruntime"] = 1e-2 * float(np.abs(value - expected).max()) / largest
    return errors


def run_float32(case, active, feed) -> list[np.ndarray]:
    proto = with_gradients(forward_model(case, onnx.TensorProto.FLOAT), active)
    onnx.checker.check_model(proto, full_check=True)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}
    inputs = {k: v.astype(np.float32) for k, v in feed.items() if k in wanted}
    return session.run([f"d{n}" for n in active], inputs)


class Erf(OpRun):
    """onnx's reference Erf rounds to float32, which is too coarse to difference."""

    def _run(self, x):  # type: ignore[no-untyped-def]
        return (scipy.special.erf(x),)


class Gelu(OpRun):
    """Its function body computes with the coarse Erf."""

    def _run(self, x, approximate="none"):  # type: ignore[no-untyped-def]
        if approximate == "tanh":
            u = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
            return (0.5 * x * (1 + np.tanh(u)),)
        return (x * scipy.special.ndtr(x),)


class LRN(OpRun):
    """onnx's reference takes the number of pictures for the number of channels."""

    def _run(self, x, alpha=1e-4, beta=0.75, bias=1.0, size=None):  # type: ignore[no-untyped-def]
        before, after = (size - 1) // 2, size // 2
        sums = [
            (x[:, max(0, c - before) : c + after + 1] ** 2).sum(axis=1) for c in range(x.shape[1])
        ]
        return (x / (bias + alpha / size * np.stack(sums, axis=1)) ** beta,)


class LpNormalization(OpRun):
    """onnx's reference leaves the absolute value out."""

    def _run(self, x, axis=-1, p=2):  # type: ignore[no-untyped-def]
        return (x / np.linalg.norm(x, ord=p, axis=axis, keepdims=True),)


class GlobalLpPool(OpRun):
    """onnx's reference has none."""

    def _run(self, x, p=2):  # type: ignore[no-untyped-def]
        axes = tuple(range(2, x.ndim))
        return ((np.abs(x) ** p).sum(axis=axes, keepdims=True) ** (1 / p),)


class MeanVarianceNormalization(OpRun):
    """Its function body has float32 constants."""

    def _run(self, x, axes=(0, 2, 3)):  # type: ignore[no-untyped-def]
        axes = tuple(axes)
        mean = x.mean(axis=axes, keepdims=True)
        return ((x - mean) / (x.std(axis=axes, keepdims=True) + 1e-9),)


class GroupNormalization(OpRun):
    """Its function body computes in float32."""

    def _run(self, x, scale, bias, epsilon=1e-5, num_groups=1, stash_type=1):  # type: ignore[no-untyped-def]
        parts = x.reshape(x.shape[0], num_groups, -1)
        centred = parts - parts.mean(axis=2, keepdims=True)
        z = centred / np.sqrt(parts.var(axis=2, keepdims=True) + epsilon)
        shape = (-1,) + (1,) * (x.ndim - 2)
        repeats = x.shape[1] // len(scale)
        scale, bias = np.repeat(scale, repeats), np.repeat(bias, repeats)
        return (z.reshape(x.shape) * scale.reshape(shape) + bias.reshape(shape),)


class GridSample(ReferenceGridSample):
    """onnx's reference rounds positions to float32, knows the modes by their new names only, and
    moves a cubic position to the border, where onnxruntime and PyTorch move the pixels it reads.
    """

    def _gs_denormalize_coordinates(self, n, dims, align_corners):  # type: ignore[no-untyped-def]
        pairs = zip(n, dims, strict=True)
        return np.array([self._gs_denormalize(v, d, align_corners) for v, d in pairs])

    def _run(self, x, grid, mode=None, padding_mode=None, align_corners=None):  # type: ignore[no-untyped-def]
        mode = (mode or "linear").removeprefix("bi")
        if mode == "cubic" and padding_mode == "border":
            return super()._run(
                *self._widened(x, grid, align_corners), mode, "zeros", align_corners
            )
        return super()._run(x, grid, mode, padding_mode, align_corners)

    @staticmethod
    def _widened(x, grid, align_corners):  # type: ignore[no-untyped-def]
        """The picture with its border repeated all around, and the positions in it."""
        sides = np.array(x.shape[2:])
        margins = 2 * sides + 4
        wide = np.pad(x, [(0, 0), (0, 0), *((m, m) for m in margins)], mode="edge")
        sides, margins = sides[::-1], margins[::-1]  # positions are x, y, z
        if align_corners:
            place = (grid + 1) / 2 * (sides - 1) + margins
            return wide, 2 * place / (sides + 2 * margins - 1) - 1
        place = ((grid + 1) * sides - 1) / 2 + margins
        return wide, (2 * place + 1) / (sides + 2 * margins) - 1


class AffineGrid(OpRun):
    """onnx's reference computes in float32."""

    def _run(self, theta, size, align_corners=0):  # type: ignore[no-untyped-def]
        size = size[2:]
        ends = [1.0 if align_corners else 1 - 1 / length for length in size]
        axes = [np.linspace(-e, e, length) for e, length in zip(ends, size, strict=True)]
        at = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(size)], axis=-1)
        return (np.einsum("ndk,...k->n...d", theta, at),)


class DeformConv(OpRun):
    """onnx's reference rounds positions to float32, and divides by zero for one row of pixels."""

    def _run(  # type: ignore[no-untyped-def]
        self, x, w, offset, b=None, mask=None, dilations=None, group=1, kernel_shape=None,
        offset_group=1, pads=None, strides=None,
    ):  # fmt: skip
        (dilations, strides), pads = (d or [1, 1] for d in (dilations, strides)), pads or [0] * 4
        sides, taps, outputs = x.shape[2:], w.shape[2:], offset.shape[2:]
        offset = offset.reshape(len(x), offset_group, *taps, 2, *outputs)
        mask = np.ones(offset.size // 2) if mask is None else mask
        mask = mask.reshape(len(x), offset_group, *taps, *outputs)
        y = np.zeros((len(x), len(w), *outputs), x.dtype)
        per_offset, per_group = x.shape[1] // offset_group, x.shape[1] // group
        for n, c, s, t, i, j in np.ndindex(*x.shape[:2], *taps, *outputs):
            o, g = c // per_offset, c // per_group
            row = i * strides[0] - pads[0] + s * dilations[0] + offset[n, o, s, t, 0, i, j]
            column = j * strides[1] - pads[1] + t * dilations[1] + offset[n, o, s, t, 1, i, j]
            # A pixel's weight falls from 1 to 0 over the distance of one pixel.
            rows = np.clip(1 - np.abs(row - np.arange(sides[0])), 0, None)
            columns = np.clip(1 - np.abs(column - np.arange(sides[1])), 0, None)
            read = rows @ x[n, c] @ columns * mask[n, o, s, t, i, j]
            members = slice(g * len(w) // group, (g + 1) * len(w) // group)
            y[n, members, i, j] += read * w[members, c % per_group, s, t]
        return (y if b is None else y + b.reshape(-1, 1, 1),)


EXACT = [
    DeformConv,
    AffineGrid,
    GridSample,
    Erf,
    Gelu,
    LRN,
    LpNormalization,
    GlobalLpPool,
    MeanVarianceNormalization,
    GroupNormalization,
]
