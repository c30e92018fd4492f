"""Exporting plain ONNX models: the contract, targets, layers, scores, against torch's autograd."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime as ort
import pytest

from helpers_onnx import small_network, torch_small_network
from onnxcam.contract import METADATA_KEY, Contract
from onnxcam.errors import (
    ContractError,
    ExportError,
    LayerError,
    ModelError,
    PreprocessError,
    UnsupportedOpError,
)
from onnxcam_export import from_onnx

RNG = np.random.default_rng(11)
PICTURES = RNG.standard_normal((3, 3, 16, 16)).astype(np.float32)


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def run(model, pictures, targets):
    ran = session(model)
    feed = {"picture": pictures, "cam_target": np.asarray(targets, np.int64)}
    return dict(zip([o.name for o in ran.get_outputs()], ran.run(None, feed), strict=True))


def contract(model) -> Contract:
    return Contract.loads(next(p.value for p in model.metadata_props if p.key == METADATA_KEY))


def autograd(plain, layer, targets, score="logit", final=None):
    import torch

    activation, logits = torch_small_network(plain)(PICTURES, layer)
    value = logits
    if score == "probability":
        value = torch.softmax(logits, 1) if final == "softmax" else torch.sigmoid(logits)
    chosen = [int(logits[i].argmax()) if t == -1 else t for i, t in enumerate(targets)]
    value[torch.arange(len(chosen)), torch.tensor(chosen)].sum().backward()
    return activation.detach().numpy(), activation.grad.numpy()


@pytest.mark.parametrize("layer", ["relu2", "conv2", "pool1", "relu1", "conv1"])
@pytest.mark.parametrize("targets", [(-1, -1, -1), (0, 4, 2), (3, -1, 0)])
def test_activation_and_gradient_agree_with_autograd(layer, targets):
    plain = small_network()
    outputs = run(from_onnx(plain, layer), PICTURES, targets)
    activation, gradient = autograd(plain, layer, targets)
    np.testing.assert_allclose(outputs["cam_activation"], activation, atol=1e-5)
    error = np.abs(outputs["cam_gradient"] - gradient).max() / np.abs(gradient).max()
    assert error < 1e-5


@pytest.mark.parametrize(("final", "activation"), [("Softmax", "softmax"), ("Sigmoid", "sigmoid")])
def test_score_steps_over_the_final_activation_or_not(final, activation):
    plain = small_network(final=final)
    for score in ("logit", "probability"):
        model = from_onnx(plain, "relu2", score=score)
        outputs = run(model, PICTURES, (1, 2, 3))
        _, gradient = autograd(plain, "relu2", (1, 2, 3), score, activation)
        error = np.abs(outputs["cam_gradient"] - gradient).max() / np.abs(gradient).max()
        assert error < 1e-4, score
        assert contract(model).output.kind == activation


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_probability_of_a_model_that_ends_in_logits(activation):
    plain = small_network()
    model = from_onnx(plain, "relu2", score="probability", activation=activation)
    outputs = run(model, PICTURES, (1, 2, 3))
    _, gradient = autograd(plain, "relu2", (1, 2, 3), "probability", activation)
    error = np.abs(outputs["cam_gradient"] - gradient).max() / np.abs(gradient).max()
    assert error < 1e-4
    assert [o.name for o in model.graph.output] == ["logits", "cam_activation", "cam_gradient"]


def test_probability_must_be_asked_for_where_the_graph_cannot_say():
    with pytest.raises(ExportError, match="activation 'softmax'"):
        from_onnx(small_network(), score="probability")
    with pytest.raises(ExportError, match="raw value"):
        from_onnx(small_network(), score="probability", activation="none")
    with pytest.raises(ExportError, match="ends in Softmax"):
        from_onnx(small_network(final="Softmax"), activation="sigmoid")


def test_original_inputs_and_outputs_stay_and_results_too():
    plain = small_network(final="Softmax")
    model = from_onnx(plain, labels=list("abcde"), preprocess="unit")
    assert [i.name for i in model.graph.input] == ["picture", "cam_target"]
    assert [o.name for o in model.graph.output] == ["scores", "cam_activation", "cam_gradient"]
    expected = session(plain).run(None, {"picture": PICTURES})[0]
    np.testing.assert_array_equal(run(model, PICTURES, (-1, -1, -1))["scores"], expected)
    document = contract(model)
    assert document.labels == tuple("abcde")
    assert document.layer.tensor == "relu2"
    assert document.picture.preprocess is not None
    assert document.picture.preprocess.size == (16, 16)
    assert model.opset_import[0].version == 18
    assert 8 <= model.ir_version <= 10
    assert not model.graph.value_info


@pytest.mark.parametrize("target", [-2, -5, -6, 5, 1000, np.iinfo(np.int64).min])
@pytest.mark.parametrize("layer", ["relu2", "pool1"])
@pytest.mark.parametrize("score", ["logit", "probability"])
def test_a_target_that_is_no_class_is_an_error_not_a_map(target, layer, score):
    model = from_onnx(small_network(final="Softmax"), layer, score=score)
    with pytest.raises(Exception, match="out of data bounds"):
        run(model, PICTURES, (0, target, 1))


@pytest.mark.parametrize("targets", [(0,), (0, 1), (0, 1, 2, 3)])
def test_targets_of_the_wrong_length_are_an_error_not_a_broadcast(targets):
    with pytest.raises(Exception, match="Reshape"):
        run(from_onnx(small_network()), PICTURES, targets)


def test_without_target_input_the_highest_score_is_explained():
    plain = small_network()
    model = from_onnx(plain, target_input=False)
    assert [i.name for i in model.graph.input] == ["picture"]
    actual = session(model).run(["cam_gradient"], {"picture": PICTURES})[0]
    np.testing.assert_array_equal(
        actual, run(from_onnx(plain), PICTURES, (-1,) * 3)["cam_gradient"]
    )


def test_open_picture_size_works_at_any_size():
    plain = small_network(size="side")
    model = from_onnx(plain, "pool1")
    fixed = from_onnx(small_network(), "pool1")
    np.testing.assert_allclose(
        run(model, PICTURES, (0, 1, 2))["cam_gradient"],
        run(fixed, PICTURES, (0, 1, 2))["cam_gradient"],
        atol=1e-7,
    )
    assert run(model, PICTURES[:, :, :12, :10], (0, 1, 2))["cam_gradient"].shape == (3, 4, 6, 5)


def test_older_opsets_are_brought_to_13():
    plain = small_network(opset=11, final="Softmax")
    model = from_onnx(plain)
    assert model.opset_import[0].version == 13
    newer = from_onnx(small_network(final="Softmax"))
    np.testing.assert_allclose(
        run(model, PICTURES, (0, 1, 2))["cam_gradient"],
        run(newer, PICTURES, (0, 1, 2))["cam_gradient"],
        atol=1e-7,
    )


def test_the_head_of_a_linear_classifier_reads_one_row_of_the_weights():
    model = from_onnx(small_network())
    gradient_ops = [n.op_type for n in model.graph.node if n.name.startswith("cam/")]
    assert "Gather" in gradient_ops
    assert "Gemm" not in gradient_ops
    assert "Transpose" not in gradient_ops


class TestLayers:
    def test_default_is_the_last_spatial_activation(self):
        assert contract(from_onnx(small_network())).layer.tensor == "relu2"

    def test_last_convolution(self):
        assert contract(from_onnx(small_network(), "last_conv")).layer.tensor == "conv2"

    def test_by_node_name(self):
        assert contract(from_onnx(small_network(), "relu1_node")).layer.tensor == "relu1"

    def test_class_map_is_stepped_back_over(self):
        """Conv to one channel per class, then global average pooling: SqueezeNet's head."""
        float32 = onnx.TensorProto.FLOAT
        weights = {"w1": (4, 3, 3, 3), "w2": (5, 4, 1, 1)}
        nodes = [
            oh.make_node("Conv", ["picture", "w1"], ["conv1"], pads=[1] * 4),
            oh.make_node("Relu", ["conv1"], ["relu1"]),
            oh.make_node("Dropout", ["relu1"], ["dropped"]),
            oh.make_node("Conv", ["dropped", "w2"], ["maps"]),
            oh.make_node("Relu", ["maps"], ["relu2"]),
            oh.make_node("GlobalAveragePool", ["relu2"], ["pooled"]),
            oh.make_node("Flatten", ["pooled"], ["logits"]),
        ]
        graph = oh.make_graph(
            nodes,
            "classmap",
            [oh.make_tensor_value_info("picture", float32, [1, 3, 8, 8])],
            [oh.make_tensor_value_info("logits", float32, [1, 5])],
            [
                onnx.numpy_helper.from_array(RNG.standard_normal(s).astype(np.float32), n)
                for n, s in weights.items()
            ],
        )
        plain = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)
        assert contract(from_onnx(plain)).layer.tensor == "relu1"
        assert contract(from_onnx(plain, "relu2")).layer.tensor == "relu2"

    def test_unknown_layer_suggests_the_nearest(self):
        with pytest.raises(LayerError, match=r"no layer 'rellu2'.*'relu2'"):
            from_onnx(small_network(), "rellu2")

    def test_layer_without_spatial_axes(self):
        with pytest.raises(LayerError, match="no spatial axes"):
            from_onnx(small_network(), "flat")

    def test_layer_of_one_pixel(self):
        with pytest.raises(LayerError, match="one pixel"):
            from_onnx(small_network(), "pooled")

    def test_layer_behind_the_score(self):
        with pytest.raises(LayerError, match="does not lead to the score"):
            from_onnx(small_network(final="Softmax"), "scores")

    def test_the_score_itself(self):
        with pytest.raises(LayerError, match="the score itself"):
            from_onnx(small_network(), "logits")


class TestBadInput:
    def test_missing_file(self, tmp_path):
        with pytest.raises(ModelError, match="no such file"):
            from_onnx(tmp_path / "nothing.onnx")

    @pytest.mark.parametrize(
        ("content", "match"),
        [
            (b"", "empty"),
            (b"no model at all", "not an ONNX model|truncated"),
            (b"\x08\x07", "holds no graph"),
        ],
    )
    def test_empty_and_foreign_files(self, tmp_path, content, match):
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=match):
            from_onnx(path)

    def test_truncated_file(self, tmp_path):
        content = small_network().SerializeToString()
        path = tmp_path / "model.onnx"
        for length in (10, len(content) // 2, len(content) - 3):
            path.write_bytes(content[:length])
            with pytest.raises(ModelError):
                from_onnx(path)

    def test_external_data_outside_the_folder(self, tmp_path):
        outside = tmp_path / "secret.bin"
        outside.write_bytes(bytes(4096))
        folder = tmp_path / "models"
        folder.mkdir()
        plain = small_network()
        tensor = plain.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "../secret.bin"
        path = folder / "model.onnx"
        path.write_bytes(plain.SerializeToString())
        with pytest.raises(ModelError, match="outside the model's folder"):
            from_onnx(path)

    def test_external_data_beside_the_model(self, tmp_path):
        path = tmp_path / "model.onnx"
        onnx.save(
            small_network(), path, save_as_external_data=True, location="w.bin", size_threshold=0
        )
        actual = run(from_onnx(path), PICTURES, (0, 1, 2))["cam_gradient"]
        np.testing.assert_array_equal(
            actual, run(from_onnx(small_network()), PICTURES, (0, 1, 2))["cam_gradient"]
        )

    def test_operator_without_derivative_is_named(self):
        extra = (oh.make_node("Round", ["relu2"], ["rounded"], name="rounding"),)
        plain = small_network(extra=extra)
        plain.graph.node[-3].input[0] = "rounded"
        with pytest.raises(UnsupportedOpError, match=r"Round 'rounding'.*'rounded'"):
            from_onnx(plain, "conv2")

    def test_a_custom_operator_is_not_taken_for_a_standard_one(self):
        extra = (oh.make_node("Relu", ["relu2"], ["own"], name="own_relu", domain="custom.domain"),)
        plain = small_network(extra=extra)
        plain.graph.node[-3].input[0] = "own"
        plain.graph.value_info.append(
            oh.make_tensor_value_info("own", onnx.TensorProto.FLOAT, ["batch", 6, 8, 8])
        )
        with pytest.raises(UnsupportedOpError, match=r"custom.domain.Relu 'own_relu'"):
            from_onnx(plain, "conv2")
        assert contract(from_onnx(plain)).layer.tensor == "own"

    def test_an_explaining_model_is_not_explained_again(self):
        with pytest.raises(ExportError, match="explains already"):
            from_onnx(from_onnx(small_network()))

    def test_labels_of_the_wrong_number(self):
        with pytest.raises(ContractError, match="expected 5, one per class; got 2"):
            from_onnx(small_network(), labels=["a", "b"])

    def test_preprocessing_with_the_wrong_channels(self):
        with pytest.raises(ExportError, match="takes 3"):
            from_onnx(small_network(), preprocess={"color": "GRAY"})

    def test_unknown_preprocessing(self):
        with pytest.raises(PreprocessError, match="imagenet"):
            from_onnx(small_network(), preprocess="imagnet")

    def test_unknown_score(self):
        with pytest.raises(ExportError, match="logit, probability"):
            from_onnx(small_network(), score="loss")

    def test_no_half_written_file(self, tmp_path):
        with pytest.raises(LayerError):
            from_onnx(small_network(), "nothing", output=tmp_path / "out.onnx")
        with pytest.raises(ExportError, match="does not exist"):
            from_onnx(small_network(), output=tmp_path / "missing" / "out.onnx")
        assert list(tmp_path.iterdir()) == []

    def test_output_is_written_whole(self, tmp_path):
        model = from_onnx(small_network(), output=tmp_path / "out.onnx")
        assert (tmp_path / "out.onnx").read_bytes() == model.SerializeToString()
        assert [p.name for p in tmp_path.iterdir()] == ["out.onnx"]


def test_the_file_has_the_lowest_ir_version_that_its_opset_needs():
    for opset, written, expected in ((18, 10, 8), (19, 10, 9), (21, 10, 10), (11, 6, 7)):
        plain = small_network()
        plain.opset_import[0].version, plain.ir_version = opset, written
        assert from_onnx(plain).ir_version == expected
