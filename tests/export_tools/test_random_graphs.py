"""Random graphs of the table's operators in float64: the gradient against central differences.

    ONNXCAM_RANDOM_GRAPHS=5000 pytest tests/export_tools/test_random_graphs.py

runs thousands of them; a failure is shrunk to the shortest list of steps that still fails.
"""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnx.helper as oh
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from helpers_gradients import EXACT, with_gradients

EXAMPLES = int(os.environ.get("ONNXCAM_RANDOM_GRAPHS", "40"))
OPSET = 20
LARGEST = 1500  # elements of a tensor

UNARY = """Relu LeakyRelu Elu Selu Celu Sigmoid Tanh Softplus HardSigmoid HardSwish Erf Softsign Sin
Cos Atan Neg Abs Mish Gelu Identity Asinh""".split()
REDUCTIONS = """ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceSumSquare
ReduceLogSumExp""".split()


class Graph:
    """A graph that grows step by step; every tensor's value is known as it is made."""

    def __init__(self, x):
        self.values = {"x": x}
        self.nodes, self.constants = [], {}

    def floats(self):
        return {name: v for name, v in self.values.items() if v.dtype == np.float64}

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def add(self, op_type, inputs, outputs=1, **attributes):
        names = [f"t{len(self.values) + i}" for i in range(outputs)]
        node = oh.make_node(op_type, inputs, names, f"n{len(self.nodes)}", **attributes)
        known = self.values | self.constants
        feed = {name: known[name] for name in inputs if name}
        graph = oh.make_graph(
            [node],
            "step",
            [onnx.ValueInfoProto(name=n) for n in feed],
            [onnx.ValueInfoProto(name=n) for n in names],
        )
        model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", OPSET)], ir_version=10)
        results = ReferenceEvaluator(model, new_ops=EXACT).run(None, feed)
        for name, result in zip(names, results, strict=True):
            self.values[name] = np.asarray(result)
        self.nodes.append(node)
        return names if outputs > 1 else names[0]

    def model(self, output):
        x = self.values["x"]
        graph = oh.make_graph(
            self.nodes,
            "random",
            [oh.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, x.shape)],
            [oh.make_tensor_value_info(output, onnx.TensorProto.DOUBLE, self.values[output].shape)],
            [onnx.numpy_helper.from_array(a, n) for n, a in self.constants.items()],
        )
        return oh.make_model(graph, opset_imports=[oh.make_opsetid("", OPSET)], ir_version=10)


def unary(g, x, rng):
    return g.add(str(rng.choice(UNARY)), [x])


def binary(g, x, rng):
    """With a tensor of the same shape made before, or with a constant that broadcasts."""
    shape = g.values[x].shape
    same = [n for n, v in g.floats().items() if v.shape == shape]
    other = [int(s) if rng.random() < 0.5 else 1 for s in shape]
    options = [str(rng.choice(same)), g.constant(rng.standard_normal(other) + 0.1)]
    pair = [x, options[int(rng.integers(2))]]
    if rng.random() < 0.3:
        pair = pair[::-1]
    return g.add(str(rng.choice(["Add", "Sub", "Mul", "Max", "Min"])), pair)


def divide(g, x, rng):
    below = g.add("Add", [g.add("Abs", [x]), g.constant(np.array(1.0))])
    return g.add("Div", [g.constant(rng.standard_normal(())), below])


def softmax(g, x, rng):
    axis = int(rng.integers(g.values[x].ndim))
    return g.add(str(rng.choice(["Softmax", "LogSoftmax"])), [x], axis=axis)


def normalise(g, x, rng):
    shape = g.values[x].shape
    scale = rng.standard_normal(shape[-1])
    kind = int(rng.integers(3))
    if len(shape) >= 3 and kind and np.prod(shape[2:]) > 2:
        names = [g.constant(rng.standard_normal(shape[1])) for _ in range(2)]
        if kind == 1:
            return g.add("InstanceNormalization", [x, *names], epsilon=0.1)
        names += [g.constant(rng.standard_normal(shape[1])), g.constant(rng.random(shape[1]) + 0.5)]
        return g.add("BatchNormalization", [x, *names])
    inputs = [x, g.constant(scale), g.constant(scale[::-1].copy())]
    return g.add("LayerNormalization", inputs, axis=-1, epsilon=0.1)


def reduce(g, x, rng):
    axis = g.constant(np.array([rng.integers(g.values[x].ndim)]))
    return g.add(str(rng.choice(REDUCTIONS)), [x, axis], keepdims=1)


def transpose(g, x, rng):
    return g.add("Transpose", [x], perm=[int(a) for a in rng.permutation(g.values[x].ndim)])


def reshape(g, x, rng):
    shape = list(g.values[x].shape)
    if len(shape) < 2 or rng.random() < 0.4:
        return g.add("Unsqueeze", [x, g.constant(np.array([rng.integers(len(shape) + 1)]))])
    axis = int(rng.integers(len(shape) - 1))
    merged = [*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]]
    return g.add("Reshape", [x, g.constant(np.array(merged))])


def cut(g, x, rng):
    axis = int(rng.integers(g.values[x].ndim))
    length = g.values[x].shape[axis]
    start, step = int(rng.integers(length)), int(rng.choice([1, 2, -1]))
    end = length if step > 0 else -length - 1
    parts = [g.constant(np.array([n])) for n in (start, end, axis, step)]
    return g.add("Slice", [x, *parts])


def pad(g, x, rng):
    shape = g.values[x].shape
    mode = str(rng.choice(["constant", "reflect", "edge", "wrap"]))
    most = [min(2, size - 1) for size in shape]
    pads = [int(rng.integers(m + 1)) for m in [*most, *most]]
    return g.add("Pad", [x, g.constant(np.array(pads))], mode=mode)


def join(g, x, rng):
    shape = g.values[x].shape
    axis = int(rng.integers(len(shape)))
    fitting = [
        n
        for n, v in g.floats().items()
        if v.ndim == len(shape)
        and v.shape[:axis] + v.shape[axis + 1 :] == shape[:axis] + shape[axis + 1 :]
    ]
    return g.add("Concat", [x, str(rng.choice(fitting))], axis=axis)


def split(g, x, rng):
    axis = int(rng.integers(g.values[x].ndim))
    length = g.values[x].shape[axis]
    assume(length > 1)
    first = int(rng.integers(1, length))
    parts = g.add("Split", [x, g.constant(np.array([first, length - first]))], outputs=2, axis=axis)
    return parts[int(rng.integers(2))]


def pick(g, x, rng):
    axis = int(rng.integers(g.values[x].ndim))
    length = g.values[x].shape[axis]
    indices = rng.integers(-length, length, size=int(rng.integers(1, 4)))
    if rng.random() < 0.3:
        indices = indices[0]
    return g.add("Gather", [x, g.constant(np.asarray(indices))], axis=axis)


def matmul(g, x, rng):
    shape = g.values[x].shape
    if len(shape) >= 2 and rng.random() < 0.4:  # with itself, as attention does
        perm = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        return g.add("MatMul", [x, g.add("Transpose", [x], perm=perm)])
    weight = rng.standard_normal((shape[-1], int(rng.integers(1, 5))))
    return g.add("MatMul", [x, g.constant(weight)])


def gemm(g, x, rng):
    flat = g.add("Flatten", [x], axis=min(1, g.values[x].ndim))
    width = g.values[flat].shape[1]
    trans = int(rng.integers(2))
    weight = rng.standard_normal((4, width) if trans else (width, 4)) / np.sqrt(width)
    bias = g.constant(rng.standard_normal(4))
    return g.add("Gemm", [flat, g.constant(weight), bias], transB=trans, alpha=0.7)


def einsum(g, x, rng):
    letters = "abcdefgh"[: g.values[x].ndim]
    gone = str(rng.choice(list(letters)))
    weight = rng.standard_normal((g.values[x].shape[letters.index(gone)], 3))
    equation = f"{letters},{gone}z->{letters.replace(gone, 'z')}"
    return g.add("Einsum", [x, g.constant(weight)], equation=equation)


def accumulate(g, x, rng):
    axis = g.constant(np.array(rng.integers(g.values[x].ndim)))
    return g.add("CumSum", [x, axis], exclusive=int(rng.integers(2)), reverse=int(rng.integers(2)))


def tile(g, x, rng):
    repeats = [int(n) for n in rng.integers(1, 3, size=g.values[x].ndim)]
    return g.add("Tile", [x, g.constant(np.array(repeats))])


def largest(g, x, rng):
    axis = int(rng.integers(g.values[x].ndim))
    count = int(rng.integers(1, g.values[x].shape[axis] + 1))
    return g.add("TopK", [x, g.constant(np.array([count]))], outputs=2, axis=axis)[0]


def convolve(g, x, rng):
    _n, c, h, w = g.values[x].shape
    pads = [int(p) for p in rng.integers(0, 2, size=4)]
    kernel = [int(k) for k in rng.integers(1, 4, size=2)]
    strides = [int(s) for s in rng.integers(1, 3, size=2)]
    if rng.random() < 0.3:
        weight = g.constant(rng.standard_normal((c, 3, *kernel)) / c)
        return g.add("ConvTranspose", [x, weight], strides=strides)
    assume(h + pads[0] + pads[2] >= kernel[0] and w + pads[1] + pads[3] >= kernel[1])
    weight = g.constant(rng.standard_normal((3, c, *kernel)) / c)
    return g.add("Conv", [x, weight], pads=pads, strides=strides)


def pool(g, x, rng):
    _n, _c, h, w = g.values[x].shape
    kind = int(rng.integers(4))
    if kind == 0:
        return g.add(str(rng.choice(["GlobalAveragePool", "GlobalMaxPool"])), [x])
    assume(h >= 2 and w >= 2)
    strides = [int(s) for s in rng.integers(1, 3, size=2)]
    if kind == 1:
        # onnx's reference evaluator gives wrong indices where all strides are 1
        strides = [2, strides[1]]
        return g.add("MaxPool", [x], kernel_shape=[2, 2], strides=strides)
    pads = [int(p) for p in rng.integers(0, 2, size=4)]
    include = int(rng.integers(2))
    return g.add(
        "AveragePool",
        [x],
        kernel_shape=[2, 2],
        strides=strides,
        pads=pads,
        count_include_pad=include,
    )


def resize(g, x, rng):
    n, c, h, w = g.values[x].shape
    mode = str(rng.choice(["nearest", "linear", "cubic"]))
    kind = str(rng.choice(["half_pixel", "asymmetric", "align_corners"]))
    sizes = [n, c, h + int(rng.integers(3)), w + int(rng.integers(3))]
    inputs = [x, "", "", g.constant(np.array(sizes))]
    return g.add("Resize", inputs, mode=mode, coordinate_transformation_mode=kind)


def blocks(g, x, rng):
    _n, c, h, w = g.values[x].shape
    if c % 4 == 0:
        mode = str(rng.choice(["DCR", "CRD"]))
        return g.add("DepthToSpace", [x], blocksize=2, mode=mode)
    assume(h % 2 == 0 and w % 2 == 0)
    return g.add("SpaceToDepth", [x], blocksize=2)


def local_response(g, x, rng):
    return g.add("LRN", [x], size=int(rng.choice([2, 3])), alpha=0.5)


ANY = (
    unary, unary, binary, binary, divide, softmax, normalise, reduce, transpose, reshape, cut, pad,
    join, split, pick, matmul, gemm, einsum, accumulate, tile, largest,
)  # fmt: skip
PICTURES = (convolve, convolve, pool, pool, resize, blocks, local_response, normalise)


def grow(steps):
    rng = np.random.default_rng(steps[0])
    g = Graph(rng.standard_normal((2, int(rng.integers(1, 5)), 4, int(rng.integers(3, 6)))))
    current = "x"
    for step in steps:
        rng = np.random.default_rng(step)
        rank = g.values[current].ndim
        if rank == 0 or rank > 5:
            break
        choices = PICTURES if rank == 4 and rng.random() < 0.5 else ANY
        current = choices[int(rng.integers(len(choices)))](g, current, rng)
        value = g.values[current]
        assume(0 < value.size <= LARGEST)
        assume(np.isfinite(value).all() and np.abs(value).max() < 1e3)
        if rng.random() < 0.3:  # go on from an earlier tensor: branches, skips
            current = str(rng.choice(list(g.floats())[-4:]))
    return g, current


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=EXAMPLES <= 100,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=9))
def test_random_graph_agrees_with_central_differences(steps):
    with np.errstate(all="ignore"):
        g, output = grow(steps)
        assume(output != "x")
        check(g, output)


def check(g, output):
    model = g.model(output)
    note(onnx.printer.to_text(model))
    rng = np.random.default_rng(0)
    x = g.values["x"]
    seed = rng.standard_normal(g.values[output].shape)
    forward = ReferenceEvaluator(model, new_ops=EXACT)
    derived = with_gradients(model, ["x"])
    (grad,) = ReferenceEvaluator(derived, new_ops=EXACT).run(["dx"], {"x": x, "v0": seed})
    direction = rng.standard_normal(x.shape)

    def total(step):
        return float((forward.run(None, {"x": x + step * direction})[0] * seed).sum())

    step = 1e-6
    ahead, here, behind = total(step), total(0.0), total(-step)
    numerical = (ahead - behind) / (2 * step)
    # Differences of sums lose 1e-16 of their terms: where everything cancels, that is all there is.
    lost = 1e-4 * float(np.abs(g.values[output] * seed).sum()) + 1e-6
    scale = float(np.sqrt(((grad * direction) ** 2).sum())) + lost
    # A kink within the step shows as two different slopes.
    assume(abs((ahead - here) - (here - behind)) / step < 1e-3 * scale)
    assert abs(float((grad * direction).sum()) - numerical) < 1e-4 * scale
