"""Every method as a graph: against its formula in float64, and against the engine's kernel."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from helpers_methods import ORACLES
from helpers_onnx import small_network
from onnxcam.errors import ExportError, MethodError
from onnxcam.methods import METHODS, find_method
from onnxcam_export import from_onnx
from onnxcam_export.gradient import Ops
from onnxcam_export.heatmap import BUILDERS, Heatmap, emit_heatmap
from onnxcam_export.layers import Candidate
from onnxcam_export.token_grids import Tokens

RANDOM = np.random.default_rng(8)
PICTURES = RANDOM.standard_normal((3, 3, 16, 16)).astype(np.float32)
TARGETS = np.array([[-1, 0], [4, 4], [2, -1]])
TYPES = {"float32": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT16}

# name -> shape of the layer's tensor, its channel axis, its tokens
LAYOUTS: dict[str, tuple[tuple[int, ...], int, Tokens | None]] = {
    "channels first": ((2, 20, 5, 7), 1, None),
    "channels last": ((2, 5, 7, 20), 3, None),
    "1-D": ((2, 20, 9), 1, None),
    "1-D, channels last": ((2, 9, 20), 2, None),
    "3-D": ((2, 20, 3, 4, 5), 1, None),
    "3-D, channels in the middle": ((2, 3, 20, 4, 5), 2, None),
    "tokens": ((2, 14, 20), 2, Tokens(1, 2, (3, 4))),
    "tokens, channels first": ((2, 20, 13), 1, Tokens(2, 1, (3, 4))),
}


def test_the_tables_have_the_same_names():
    assert list(BUILDERS) == list(METHODS)


def graph_of(
    heatmap: Heatmap,
    layer: tuple[tuple[int | str, ...], int, Tokens | None],
    targets: int | None = None,
    dtype: str = "float32",
    picture: tuple[int | str, ...] = ("n", 3, 12, 20),
) -> onnx.ModelProto:
    """A model of inputs `picture`, `a` and `g0`, `g1`, ..., and the output `heatmap`."""
    shape, axis, tokens = layer

    def value(name, sides):
        return ir.Value(name=name, shape=ir.Shape(sides), type=ir.TensorType(TYPES[dtype]))

    op = Ops(set(), 18)
    grads = [value(f"g{k}", shape) for k in range(targets or 1)]
    candidate = Candidate(value("a", shape), axis, tokens=tokens)
    seen = value("picture", picture)
    result = emit_heatmap(op, candidate, grads, targets, heatmap, seen, "NCHW")
    result.name = "heatmap"
    inputs = [seen, candidate.value, *grads]
    constants = list(op.initializers.values())
    graph = ir.Graph(
        inputs, [result], nodes=op.nodes, initializers=constants, opset_imports={"": 18},
        name="alone",
    )  # fmt: skip
    model = ir.to_proto(ir.Model(graph, ir_version=8))
    onnx.checker.check_model(model, full_check=True)
    return model


def computed(model, a, grads, picture=(2, 3, 12, 20), reference=False):
    feed = {"picture": np.zeros(picture, a.dtype), "a": a}
    feed |= {f"g{k}": g for k, g in enumerate(grads)}
    if reference:
        return ReferenceEvaluator(model).run(None, feed)[0]
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feed)[0]


def pixels(array, axis, tokens):
    """[N, C, P] of an array of the layer's layout, by NumPy alone."""
    first = np.moveaxis(array, axis, 1)
    first = first.reshape(*first.shape[:2], -1)
    if tokens is not None:
        first = first[:, :, tokens.prefix : tokens.prefix + np.prod(tokens.grid)]
    return np.ascontiguousarray(first)


def by_kernel(name, a, g):
    """The finished map [N, P] and how many values of the signed one are not finite, [N]."""
    raw, finished = np.empty((2, len(a), 1, a.shape[2]), np.float32)
    summary = np.empty((len(a), 1, 4))
    find_method(name).load()(a, g[:, None], raw, finished, summary)
    return finished[:, 0], summary[:, 0, 3]


def by_formula(name, a, g):
    raw = np.stack(
        [ORACLES[name](x, y) for x, y in zip(a.astype(float), g.astype(float), strict=True)]
    )
    positive = np.maximum(raw, 0)
    highest = positive.max(axis=1, keepdims=True)
    return np.divide(positive, highest, out=np.zeros_like(positive), where=highest > 0)


def sides_of(layer):
    shape, axis, tokens = layer
    return tokens.grid if tokens else [s for i, s in enumerate(shape) if i not in (0, axis)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", METHODS)
def test_every_kernel_against_its_graph(method, layout):
    layer = LAYOUTS[layout]
    shape, axis, tokens = layer
    a = np.maximum(RANDOM.normal(size=shape) + 0.5, 0).astype(np.float32)
    grads = [RANDOM.normal(size=shape).astype(np.float32) for _ in range(3)]
    grads[1][0] = -np.abs(grads[1][0])  # a map that is negative everywhere
    grads[2][1] = 0
    for targets in (None, 3):
        used = grads[: targets or 1]
        found = computed(graph_of(Heatmap(method), layer, targets), a, used)
        assert found.dtype == np.float32
        k = [] if targets is None else [targets]
        assert found.shape == (2, *k, *sides_of(layer))
        found = found.reshape(2, len(used), -1)
        for i, g in enumerate(used):
            values = [pixels(array, axis, tokens) for array in (a, g)]
            kernel, _ = by_kernel(method, *values)
            np.testing.assert_allclose(found[:, i], kernel, atol=1e-5)
            np.testing.assert_allclose(found[:, i], by_formula(method, *values), atol=1e-5)
        assert found.max() == 1.0
    assert not found[0, 1].any()
    assert not found[1, 2].any()


SPECIAL = {
    "negative": ("g", slice(None), -1.0),
    "zero gradient": ("g", slice(None), 0.0),
    "zero activation": ("a", slice(None), 0.0),
    "NaN in the activation": ("a", (3, 4), np.nan),
    "NaN in the gradient": ("g", (3, 4), np.nan),
    "infinity in the activation": ("a", (3, 4), np.inf),
    "minus infinity in the activation": ("a", (3, 4), -np.inf),
    "infinity in the gradient": ("g", (3, 4), np.inf),
    "minus infinity in the gradient": ("g", (3, 4), -np.inf),
}


@pytest.mark.parametrize("reference", [False, True], ids=["onnxruntime", "reference"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
def test_maps_that_say_nothing(method, reference):
    """Zero where the kernel gives zero; NaN where it has met NaN or infinity: never a good map."""
    shape = (len(SPECIAL), 16, 3, 5)
    a = np.abs(RANDOM.normal(size=shape)).astype(np.float32) + 0.1
    g = np.abs(RANDOM.normal(size=shape)).astype(np.float32) + 0.1
    flat = {"a": a.reshape(*shape[:2], -1), "g": g.reshape(*shape[:2], -1)}
    for i, (which, where, value) in enumerate(SPECIAL.values()):
        flat[which][i][where] = value
    layer = (("n", *shape[1:]), 1, None)
    found = computed(graph_of(Heatmap(method), layer), a, [g], reference=reference)
    found = found.reshape(len(found), -1)
    kernel, non_finites = by_kernel(method, flat["a"], flat["g"])
    for i, name in enumerate(SPECIAL):
        # The ReLU of some kernels passes over -inf; the graph's does not.
        if non_finites[i] or name.startswith("minus infinity"):
            assert np.isnan(found[i]).all(), name
        else:
            np.testing.assert_allclose(found[i], kernel[i], atol=1e-5, err_msg=name)
    spoilt = dict(zip(SPECIAL, non_finites > 0, strict=True))
    assert not spoilt["negative"] and spoilt["NaN in the gradient"]
    assert spoilt["NaN in the activation"] and spoilt["infinity in the activation"]
    if method in ("gradcam", "hirescam"):
        assert all(spoilt[name] for name in SPECIAL if "infinity" in name)


def test_gradcam_plusplus_where_its_divisor_vanishes():
    """2 + S g = 0 at one position of channel 0, which counts for nothing; all else as ever."""
    a = np.abs(RANDOM.normal(size=(1, 4, 6))).astype(np.float32)
    g = RANDOM.normal(size=(1, 4, 6)).astype(np.float32)
    a[0, 0] = [-1, -1, 0, 0, 0, 0]
    g[0, 0, 2] = 1
    found = computed(graph_of(Heatmap("gradcam++"), (a.shape, 1, None)), a, [g])
    without = g.copy()
    without[0, 0, 2] = 0
    np.testing.assert_allclose(found, by_formula("gradcam++", a, without), atol=1e-5)
    np.testing.assert_allclose(found, by_kernel("gradcam++", a, g)[0], atol=1e-5)
    assert found.max() == 1


@pytest.mark.parametrize("method", METHODS)
def test_halves_are_computed_in_float32(method):
    layer = LAYOUTS["channels last"]
    a = np.maximum(RANDOM.normal(size=layer[0]), 0).astype(np.float16)
    g = (RANDOM.normal(size=layer[0]) * 1e-2).astype(np.float16)
    found = computed(graph_of(Heatmap(method), layer, dtype="float16"), a, [g])
    values = [pixels(array, 3, None).astype(np.float32) for array in (a, g)]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.reshape(2, -1), by_kernel(method, *values)[0], atol=1e-5)


@pytest.mark.parametrize("open_sides", [False, True])
@pytest.mark.parametrize("targets", [None, 3])
@pytest.mark.parametrize(
    ("layer", "sides", "mode"),
    [
        ("1-D", (31,), "linear"),
        ("channels last", (12, 20), "bilinear"),
        ("3-D", (8, 9, 11), "trilinear"),
        ("tokens", (12, 20), "bilinear"),
    ],
)
def test_as_large_as_the_input(layer, sides, mode, targets, open_sides):
    """Normalised first, then enlarged as torch does it."""
    layer = LAYOUTS[layer]
    shape, axis, tokens = layer
    a = np.abs(RANDOM.normal(size=shape)).astype(np.float32)
    grads = [RANDOM.normal(size=shape).astype(np.float32) for _ in range(targets or 1)]
    small = computed(graph_of(Heatmap("layercam"), layer, targets), a, grads)
    named = layer
    if open_sides and tokens is None:
        named = tuple(x if i in (axis, 1 - axis) else f"s{i}" for i, x in enumerate(shape))
        named = (("n", *named[1:]), axis, None)
    picture = ("n", 3, *[f"p{i}" if open_sides else side for i, side in enumerate(sides)])
    model = graph_of(Heatmap("layercam", "input"), named, targets, picture=picture)
    found = computed(model, a, grads, picture=(2, 3, *sides))
    maps = torch.tensor(small if targets else small[:, None])
    expected = torch.nn.functional.interpolate(maps, sides, mode=mode).numpy()
    np.testing.assert_allclose(found, expected if targets else expected[:, 0], atol=1e-6)


def test_the_size_of_an_input_of_another_rank():
    with pytest.raises(ExportError, match="has 1 spatial axes, the input 'picture' has 2"):
        graph_of(Heatmap("gradcam", "input"), LAYOUTS["1-D"])


def run(model, targets, pictures=PICTURES):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    feed = {"picture": pictures, "cam_target": np.asarray(targets, np.int64)}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))


def shapes(model):
    return {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in model.graph.output
    }


class TestNetworks:
    @pytest.mark.parametrize("layer", ["relu2", ["relu2", "conv1"]])
    @pytest.mark.parametrize("targets", [None, 2])
    def test_outputs(self, layer, targets):
        model = from_onnx(small_network(), layer, emit="heatmap", targets=targets)
        assert "cam_activation" not in shapes(model) and "cam_gradient" not in shapes(model)
        k = [targets] if targets else []
        assert shapes(model)["cam_heatmap"] == ["batch", *k, 8, 8]
        found = run(model, TARGETS if targets else TARGETS[:, 0])
        assert found["cam_heatmap"].shape == (3, *k, 8, 8)
        if layer != "relu2":
            assert shapes(model)["cam_heatmap_1"] == ["batch", *k, 16, 16]
            assert found["cam_heatmap_1"].shape == (3, *k, 16, 16)

    def test_open_sides(self):
        plain = small_network(size="side")
        model = from_onnx(plain, "relu1", emit="heatmap", heatmap_size="input")
        assert shapes(model)["cam_heatmap"] == ["batch", "side", "side"]
        pictures = RANDOM.standard_normal((3, 3, 10, 14)).astype(np.float32)
        large = run(model, TARGETS[:, 0], pictures)["cam_heatmap"]
        own = run(from_onnx(plain, "relu1", emit="heatmap"), TARGETS[:, 0], pictures)
        np.testing.assert_allclose(large, own["cam_heatmap"], atol=1e-6)  # the same size

    @pytest.mark.parametrize("target", [-2, 5])
    @pytest.mark.parametrize("method", METHODS)
    def test_any_target_out_of_range_is_an_error(self, target, method):
        model = from_onnx(small_network(), "relu1", emit="heatmap", method=method)
        with pytest.raises(Exception, match="out of data bounds"):
            run(model, [0, target, 1])

    def test_without_the_target_input(self):
        model = from_onnx(small_network(), emit="heatmap", target_input=False)
        session = ort.InferenceSession(model.SerializeToString())
        (found,) = session.run(["cam_heatmap"], {"picture": PICTURES})
        expected = run(from_onnx(small_network(), emit="heatmap"), [-1] * 3)
        np.testing.assert_array_equal(found, expected["cam_heatmap"])

    def test_gradcam_never_makes_the_gradient_of_a_dense_head(self):
        """As in VGG: only the activation itself has its size, and no weight of the head's."""
        plain = dense_head()
        model = onnx.shape_inference.infer_shapes(from_onnx(plain, "relu", emit="heatmap"))
        own = {name for node in plain.graph.node for name in node.output}
        sizes = {
            v.name: np.prod([d.dim_value for d in v.type.tensor_type.shape.dim])
            for v in [*model.graph.value_info, *model.graph.output]
        }
        emitted = [o for n in model.graph.node for o in n.output if o not in own]
        assert emitted and all(name in sizes for name in emitted)
        large = [name for name in emitted if sizes[name] >= 8 * 16 * 16]
        makers = {o: n.op_type for n in model.graph.node for o in n.output}
        assert [makers[name] for name in large] == ["Reshape"]  # the activation as [N, C, P]
        added = {t.name for t in plain.graph.initializer}
        stored = [t for t in model.graph.initializer if t.name not in added]
        assert max(np.prod(t.dims) for t in stored) == 32 * 8  # the mean of the dense weights
        pictures = RANDOM.standard_normal((1, 3, 16, 16)).astype(np.float32)
        full = from_onnx(plain, "relu")
        outputs = run(full, [2], pictures)
        values = [outputs[x].reshape(1, 8, -1) for x in ("cam_activation", "cam_gradient")]
        found = run(from_onnx(plain, "relu", emit="heatmap"), [2], pictures)["cam_heatmap"]
        np.testing.assert_allclose(
            found.reshape(1, -1), by_kernel("gradcam", *values)[0], atol=1e-5
        )

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"method": "layercam"}, ExportError, "method 'layercam': only for a finished"),
            ({"emit": "weights", "method": "gradcam"}, ExportError, "emits 'weights'"),
            ({"heatmap_size": "input"}, ExportError, "heatmap size 'input': only for"),
            ({"emit": "heatmap", "heatmap_size": "big"}, ExportError, "map, input; got 'big'"),
            ({"emit": "heatmap", "method": "LayerCAM"}, MethodError, "mean 'layercam'"),
            ({"emit": "heatmap", "method": ""}, MethodError, "known are gradcam, "),
        ],
    )
    def test_bad_options(self, options, error, message):
        with pytest.raises(error, match=message):
            from_onnx(small_network(), **options)


def dense_head() -> onnx.ModelProto:
    """Conv 3 to 8, Relu, Flatten, Gemm to 32, Relu, Gemm to 4; 16x16 pixels, batch 1."""
    rng = np.random.default_rng(1)
    weights = {
        "kernel": rng.normal(size=(8, 3, 3, 3)),
        "first": rng.normal(size=(32, 8 * 16 * 16)) / 40,
        "last": rng.normal(size=(4, 32)),
    }
    helper = onnx.helper
    nodes = [
        helper.make_node("Conv", ["picture", "kernel"], ["conv"], pads=[1] * 4),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Flatten", ["relu"], ["flat"]),
        helper.make_node("Gemm", ["flat", "first"], ["hidden"], transB=1),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "last"], ["logits"], transB=1),
    ]
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "dense",
        [helper.make_tensor_value_info("picture", float32, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("logits", float32, [1, 4])],
        [onnx.numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
