"""Several targets, several layers, pooled weights: against torch's autograd."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime as ort
import pytest
from onnx.numpy_helper import from_array

from helpers_onnx import small_network, torch_small_network
from onnxcam.contract import METADATA_KEY, Contract
from onnxcam.errors import ExportError, LayerError
from onnxcam_export import from_onnx

PICTURES = np.random.default_rng(11).standard_normal((3, 3, 16, 16)).astype(np.float32)
TARGETS = np.array([[-1, 0], [4, 4], [2, -1]])


def run(model, targets, pictures=PICTURES):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    feed = {"picture": pictures, "cam_target": np.asarray(targets, np.int64)}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))


def with_hidden_layers(weights: list[str]) -> onnx.ModelProto:
    """The small network with Gemm, Relu, Gemm, Relu before its last layer."""
    plain = small_network()
    graph = plain.graph
    rng = np.random.default_rng(4)
    for name in set(weights):
        graph.initializer.append(from_array(rng.random((6, 6), np.float32) - 0.3, name))
    place, previous = len(graph.node) - 1, "flat"
    for i, weight in enumerate(weights):
        graph.node.insert(place, oh.make_node("Gemm", [previous, weight], [f"h{i}"], transB=1))
        graph.node.insert(place + 1, oh.make_node("Relu", [f"h{i}"], [f"r{i}"]))
        place, previous = place + 2, f"r{i}"
    graph.node[-1].input[0] = previous
    return plain


def autograd(plain, layer, targets, score="logit"):
    """Gradient [N, C, h, w] for one target an image."""
    import torch

    activation, value = torch_small_network(plain)(PICTURES, layer)
    chosen = [int(value[i].argmax()) if t == -1 else int(t) for i, t in enumerate(targets)]
    if score == "probability":
        value = torch.softmax(value, 1)
    value[torch.arange(len(chosen)), torch.tensor(chosen)].sum().backward()
    return activation.grad.numpy()


def close(actual, expected, relative=1e-5):
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() < relative * np.abs(expected).max()


def op_types(model):
    return [node.op_type for node in model.graph.node if node.name.startswith("cam/")]


def shapes(model):
    return {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }


class TestTargets:
    @pytest.mark.parametrize("layer", ["relu2", "conv2", "pool1", "conv1"])
    @pytest.mark.parametrize("batch", ["batch", 3])
    @pytest.mark.parametrize("score", ["logit", "probability"])
    def test_each_target_has_its_gradient(self, layer, batch, score):
        plain = small_network(batch=batch, final="Softmax")
        model = from_onnx(plain, layer, score, targets=2)
        outputs = run(model, TARGETS)
        for k in range(2):
            expected = autograd(plain, layer, TARGETS[:, k], score)
            # The softmax of large logits keeps fewer digits.
            close(outputs["cam_gradient"][:, k], expected, 1e-5 if score == "logit" else 1e-3)
        assert shapes(model)["cam_target"] == [batch, 2]
        assert shapes(model)["cam_gradient"][1] == 2

    def test_one_target_in_a_row_of_one(self):
        plain = small_network()
        several = run(from_onnx(plain, targets=1), TARGETS[:, :1])["cam_gradient"]
        assert several.shape == (3, 1, 6, 8, 8)
        one = run(from_onnx(plain), TARGETS[:, 0])["cam_gradient"]
        np.testing.assert_array_equal(several[:, 0], one)

    @pytest.mark.parametrize("place", [(0, 0), (2, 1)])
    @pytest.mark.parametrize("target", [-2, 5, -6])
    @pytest.mark.parametrize("emit", ["gradient", "weights"])
    def test_any_target_out_of_range_is_an_error(self, place, target, emit):
        targets = TARGETS.copy()
        targets[place] = target
        with pytest.raises(Exception, match="out of data bounds"):
            run(from_onnx(small_network(), "relu1", targets=2, emit=emit), targets)

    @pytest.mark.parametrize(
        "targets",
        [TARGETS[:2], TARGETS[:1], np.repeat(TARGETS, 2, axis=0), TARGETS.T, TARGETS[:, :1]],
    )
    def test_another_shape_is_an_error_not_a_broadcast(self, targets):
        with pytest.raises(Exception, match=r"Reshape|invalid dimensions|Invalid rank"):
            run(from_onnx(small_network(), targets=2), targets)

    def test_model_and_masks_stand_there_once(self):
        plain = small_network()
        model = from_onnx(plain, "conv1", targets=7)
        own = [n.op_type for n in model.graph.node if not n.name.startswith("cam/")]
        assert own == [n.op_type for n in plain.graph.node]
        one = op_types(from_onnx(plain, "conv1"))
        assert op_types(model).count("Greater") == one.count("Greater")
        assert op_types(model).count("MaxPool") == one.count("MaxPool") == 1

    @pytest.mark.parametrize(("weights", "products"), [(["a", "b"], 2), (["a", "a"], 6)])
    def test_dense_layers_are_read_once_for_all_targets(self, weights, products):
        """But for weights that are used one after the other: their products cannot be one."""
        plain = with_hidden_layers(weights)
        one, several = from_onnx(plain, "conv1"), from_onnx(plain, "conv1", targets=3)
        assert op_types(one).count("Gemm") == 2
        assert op_types(several).count("Gemm") == products
        targets = np.array([[0, -1, 4], [1, 2, 3], [-1, -1, 0]])
        found = run(several, targets)["cam_gradient"]
        for k in range(3):
            close(found[:, k], run(one, targets[:, k])["cam_gradient"])

    @pytest.mark.parametrize("targets", [0, -1, 1.5, True, "2"])
    def test_a_number_of_targets_that_is_none(self, targets):
        with pytest.raises(ExportError, match="targets: expected a whole number"):
            from_onnx(small_network(), targets=targets)

    def test_several_without_an_input_for_them(self):
        with pytest.raises(ExportError, match="cam_target"):
            from_onnx(small_network(), targets=2, target_input=False)


class TestWeights:
    @pytest.mark.parametrize("layer", ["relu2", "conv2", "pool1", "conv1"])
    def test_the_mean_of_the_gradient_over_space(self, layer):
        plain = small_network()
        model = from_onnx(plain, layer, emit="weights")
        outputs = run(model, TARGETS[:, 0])
        close(outputs["cam_weights"], autograd(plain, layer, TARGETS[:, 0]).mean(axis=(2, 3)))
        assert "cam_gradient" not in outputs
        assert shapes(model)["cam_weights"] == ["batch", outputs["cam_activation"].shape[1]]
        document = Contract.loads(
            next(p.value for p in model.metadata_props if p.key == METADATA_KEY)
        )
        assert document.emit == "weights"

    def test_for_several_targets(self):
        plain = small_network()
        outputs = run(from_onnx(plain, emit="weights", targets=2), TARGETS)
        for k in range(2):
            expected = autograd(plain, "relu2", TARGETS[:, k]).mean(axis=(2, 3))
            close(outputs["cam_weights"][:, k], expected)

    @pytest.mark.parametrize("size", [16, "side"])
    def test_nothing_is_spread_over_space_before_the_mean(self, size):
        assert "Expand" not in op_types(from_onnx(small_network(size=size), emit="weights"))

    def test_unknown(self):
        with pytest.raises(ExportError, match="gradient, weights, heatmap; got 'map'"):
            from_onnx(small_network(), emit="map")


class TestLayers:
    def test_each_layer_has_its_outputs(self):
        plain = small_network()
        model = from_onnx(plain, ["conv2", "relu1", "relu2"])
        outputs = run(model, TARGETS[:, 0])
        for index, layer in enumerate(["conv2", "relu1", "relu2"]):
            suffix = f"_{index}" if index else ""
            close(outputs[f"cam_gradient{suffix}"], autograd(plain, layer, TARGETS[:, 0]))
            single = run(from_onnx(plain, layer), TARGETS[:, 0])
            np.testing.assert_array_equal(
                outputs[f"cam_activation{suffix}"], single["cam_activation"]
            )
        document = Contract.loads(
            next(p.value for p in model.metadata_props if p.key == METADATA_KEY)
        )
        assert [layer.tensor for layer in document.layers] == ["conv2", "relu1", "relu2"]

    def test_the_way_to_an_early_layer_passes_the_late_one(self):
        """The late layer's gradient costs no more than its outputs."""
        plain = small_network()
        early = op_types(from_onnx(plain, "conv1"))
        both = op_types(from_onnx(plain, ["conv1", "conv2"]))
        assert len(both) == len(early) + 2  # Identity of activation and of gradient

    def test_two_layers_of_one_gradient_have_an_output_each(self):
        plain = small_network(extra=(oh.make_node("Dropout", ["relu2"], ["dropped"]),))
        next(n for n in plain.graph.node if n.op_type == "GlobalAveragePool").input[0] = "dropped"
        outputs = run(from_onnx(plain, ["relu2", "dropped"]), TARGETS[:, 0])
        expected = autograd(plain, "relu2", TARGETS[:, 0])
        close(outputs["cam_gradient"], expected)
        close(outputs["cam_gradient_1"], expected)

    def test_with_targets_and_weights(self):
        plain = small_network()
        model = from_onnx(plain, ["relu2", "conv1"], emit="weights", targets=2)
        outputs = run(model, TARGETS)
        for name, layer in (("cam_weights", "relu2"), ("cam_weights_1", "conv1")):
            for k in range(2):
                expected = autograd(plain, layer, TARGETS[:, k]).mean(axis=(2, 3))
                close(outputs[name][:, k], expected)

    def test_a_list_of_one_is_one(self):
        plain = small_network()
        assert from_onnx(plain, ["relu1"]) == from_onnx(plain, "relu1")

    @pytest.mark.parametrize(
        ("layers", "message"),
        [([], "empty list"), (["relu2", "relu2_node"], "twice"), (["relu2", "x"], "no layer 'x'")],
    )
    def test_bad_lists(self, layers, message):
        with pytest.raises(LayerError, match=message):
            from_onnx(small_network(), layers)
