"""Files with several targets, layers or inputs, run by the engine and by the command line."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from onnx.numpy_helper import from_array
from PIL import Image

from helpers_onnx import small_network
from onnxcam import Engine
from onnxcam.cli import main
from onnxcam.errors import ExportError, InputError, LayerError, TargetError
from onnxcam_export import from_onnx

RNG = np.random.default_rng(21)
PHOTO = RNG.integers(0, 256, (20, 24, 3), np.uint8)
OTHER = RNG.integers(0, 256, (30, 18, 3), np.uint8)
PICTURES = RNG.standard_normal((3, 3, 16, 16)).astype(np.float32)


def engine(plain=None, **options) -> Engine:
    options = {"preprocess": "unit", **options}
    return Engine(from_onnx(plain or small_network(), **options).SerializeToString())


class TestTargets:
    def test_one_picture_and_a_list_of_targets(self):
        one, several = engine(), engine(targets=3)
        results = several.explain(PHOTO, [4, None, 0])
        assert len(results) == 3
        for result, target in zip(results, [4, None, 0], strict=True):
            expected = one.explain(PHOTO, target)
            assert result.target == expected.target
            np.testing.assert_allclose(result.raw, expected.raw, atol=1e-6)

    def test_fewer_targets_and_a_single_one(self):
        one, several = engine(), engine(targets=3)
        (only,) = several.explain(PHOTO, [2])
        np.testing.assert_allclose(only.raw, one.explain(PHOTO, 2).raw, atol=1e-6)
        result = several.explain(PHOTO, 2)
        np.testing.assert_allclose(result.raw, only.raw, atol=1e-6)
        assert several.explain(PHOTO).target == one.explain(PHOTO).target

    def test_several_pictures_take_one_target_each(self):
        one, several = engine(), engine(targets=3)
        results = several.explain([PHOTO, OTHER], [1, None])
        for result, expected in zip(results, one.explain([PHOTO, OTHER], [1, None]), strict=True):
            assert result.target == expected.target
            np.testing.assert_allclose(result.raw, expected.raw, atol=1e-6)

    @pytest.mark.parametrize(
        ("target", "message"),
        [([0, 1, 2, 3], "1 to 3 targets"), ([], "1 to 3 targets"), ([0, 5], "target 5")],
    )
    def test_bad_lists(self, target, message):
        with pytest.raises(TargetError, match=message):
            engine(targets=3).explain(PHOTO, target)

    def test_a_file_of_one_target_says_how_to_get_several(self):
        with pytest.raises(TargetError, match="--targets K"):
            engine().explain(PHOTO, [0, 1])

    @pytest.mark.parametrize("emit", ["gradient", "weights"])
    def test_maps(self, emit):
        one, several = engine(), engine(targets=2, emit=emit)
        targets = np.array([[0, 1], [-1, 4], [2, 2]])
        found = several.maps(PICTURES, targets)
        assert found.shape == (3, 2, 8, 8)
        for k in range(2):
            expected = one.maps(PICTURES, targets[:, k])
            np.testing.assert_allclose(found[:, k], expected, atol=1e-5)
        with pytest.raises(TargetError, match=r"\[3, 2\]"):
            several.maps(PICTURES, [0, 1, 2])


class TestLayers:
    @pytest.mark.parametrize("emit", ["gradient", "weights"])
    def test_by_number_and_by_name(self, emit):
        several = engine(layer=["relu2", "conv1"], emit=emit)
        for index, name in enumerate(["relu2", "conv1"]):
            single = engine(layer=name).explain(PHOTO, 1)
            for layer in (index, name):
                result = several.explain(PHOTO, 1, layer=layer)
                assert result.layer == name
                np.testing.assert_allclose(
                    result.raw, single.raw, atol=1e-5 * np.abs(single.raw).max()
                )
            expected = engine(layer=name).maps(PICTURES, 1)
            np.testing.assert_allclose(several.maps(PICTURES, 1, layer=name), expected, atol=1e-4)
        assert several.explain(PHOTO).layer == "relu2"
        assert list(several.explain(PHOTO).outputs) == ["logits"]

    @pytest.mark.parametrize("layer", [2, -1, "conv2", True, 1.5])
    def test_unknown(self, layer):
        several = engine(layer=["relu2", "conv1"])
        with pytest.raises(LayerError, match="explains 0 'relu2', 1 'conv1'"):
            several.explain(PHOTO, layer=layer)

    def test_command_line(self, tmp_path, capsys):
        onnx.save(small_network(), tmp_path / "plain.onnx")
        Image.fromarray(PHOTO).save(tmp_path / "photo.png")
        out, picture = str(tmp_path / "out.onnx"), str(tmp_path / "photo.png")
        command = ["export", "onnx", str(tmp_path / "plain.onnx"), "--preprocess", "unit"]
        command += ["--layer", "relu2", "--layer", "pool1", "--targets", "2", "--emit", "weights"]
        assert main([*command, "-o", out]) == 0
        assert "layer: pool1" in capsys.readouterr().out
        assert main(["inspect", out]) == 0
        printed = capsys.readouterr().out
        assert "relu2" in printed
        assert "pool1" in printed
        assert "cam_weights_1  float [batch, 2, 4]" in printed
        assert "targets     2 an image" in printed
        saved = str(tmp_path / "o.png")
        for layer, title in (("pool1", "pool1"), ("1", "pool1"), ("relu2", "relu2")):
            assert main(["explain", out, picture, "--layer", layer, "--json", "-o", saved]) == 0
            assert json.loads(capsys.readouterr().out)["layer"] == title
        assert main(["explain", out, picture, "--layer", "conv1", "-o", saved]) == 2
        assert "explains 0 'relu2', 1 'pool1'" in capsys.readouterr().err


def two_inputs(batch="batch") -> onnx.ModelProto:
    """The small network whose logits are shifted and scaled by two further inputs."""
    plain = small_network(batch=batch)
    graph = plain.graph
    graph.node[-1].output[0] = "raw"
    graph.node.append(oh.make_node("Mul", ["raw", "gain"], ["scaled"]))
    graph.node.append(oh.make_node("Add", ["scaled", "shift"], ["logits"]))
    float32 = onnx.TensorProto.FLOAT
    graph.input.insert(0, oh.make_tensor_value_info("gain", float32, [batch, 5]))
    graph.input.append(oh.make_tensor_value_info("shift", float32, [5]))
    return plain


class TestInputs:
    GAIN = RNG.standard_normal((3, 5)).astype(np.float32)
    SHIFT = RNG.standard_normal(5).astype(np.float32)

    def inputs(self):
        return {"gain": self.GAIN, "shift": self.SHIFT}

    def test_the_picture_is_the_input_of_four_axes(self):
        found = engine(two_inputs())
        assert found.contract.picture.name == "picture"
        raw = found.maps(PICTURES, [0, 1, 2], signed=True, inputs=self.inputs())
        plain = engine().maps(PICTURES, [0, 1, 2], signed=True)
        factors = self.GAIN[range(3), [0, 1, 2]][:, None, None]
        np.testing.assert_allclose(raw, plain * factors, atol=1e-5)

    @pytest.mark.parametrize("batch", ["batch", 1, 2])
    def test_pictures_take_their_share(self, batch):
        found = engine(two_inputs(batch))
        photos = [PHOTO, OTHER, PHOTO]
        results = found.explain(photos, 1, inputs=self.inputs())
        for i, (result, plain) in enumerate(zip(results, engine().explain(photos, 1), strict=True)):
            np.testing.assert_allclose(result.raw, plain.raw * self.GAIN[i, 1], atol=1e-6)
            expected = plain.scores * self.GAIN[i] + self.SHIFT
            np.testing.assert_allclose(result.scores, expected, atol=1e-5)

    def test_missing_and_wrong_ones(self):
        found = engine(two_inputs())
        with pytest.raises(InputError, match="give shift in inputs="):
            found.maps(PICTURES, inputs={"gain": self.GAIN})
        with pytest.raises(InputError, match=r"'shift': expected float32 \[5\]"):
            found.maps(PICTURES, inputs={"gain": self.GAIN, "shift": self.SHIFT[:4]})

    def test_which_is_the_picture(self):
        plain = two_inputs()
        extra = oh.make_tensor_value_info("more", onnx.TensorProto.FLOAT, ["batch", 3, 16, 16])
        plain.graph.input.append(extra)
        with pytest.raises(ExportError, match=r"which input is the picture.*'gain', 'picture'"):
            from_onnx(plain)
        assert engine(plain, input_name="picture").contract.picture.name == "picture"
        with pytest.raises(ExportError, match="no input 'photo'"):
            from_onnx(plain, input_name="photo")

    def test_command_line(self, tmp_path, capsys):
        onnx.save(two_inputs(), tmp_path / "plain.onnx")
        Image.fromarray(PHOTO).save(tmp_path / "photo.png")
        np.save(tmp_path / "gain.npy", self.GAIN[:1])
        np.save(tmp_path / "shift.npy", self.SHIFT)
        out = str(tmp_path / "out.onnx")
        command = ["export", "onnx", str(tmp_path / "plain.onnx"), "--preprocess", "unit"]
        assert main([*command, "--verify", "-o", out]) == 0
        printed = capsys.readouterr().out
        assert "agrees" in printed
        assert "further inputs: gain, shift" in printed
        explain = ["explain", out, str(tmp_path / "photo.png"), "-o", str(tmp_path / "o.png")]
        given = [f"gain={tmp_path / 'gain.npy'}", f"shift={tmp_path / 'shift.npy'}"]
        assert main([*explain, "--json", "--input", given[0], "--input", given[1]]) == 0
        target = json.loads(capsys.readouterr().out)["pictures"][0]["target"]
        inputs = {"gain": self.GAIN[:1], "shift": self.SHIFT}
        assert target == engine(two_inputs()).explain(PHOTO, inputs=inputs).target
        for bad in ("gain", "gain=", f"gain={out}", "gain=nowhere.npy"):
            assert main([*explain, "--input", bad, "--input", given[1]]) == 2
            assert "--input" in capsys.readouterr().err


def test_a_torch_module_of_two_inputs():
    import torch

    from onnxcam_export import from_torch

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.side = torch.nn.Conv2d(3, 6, 3), torch.nn.Linear(5, 6)
            self.dense = torch.nn.Linear(6, 4)

        def forward(self, picture, facts):
            seen = torch.relu(self.conv(picture)).mean((2, 3))
            return self.dense(seen * torch.sigmoid(self.side(facts)))

    torch.manual_seed(0)
    network = Network()
    model = from_torch(network, (torch.zeros(2, 3, 16, 16), torch.zeros(2, 5)))
    facts = RNG.random((3, 5), np.float32)
    raw = Engine(model.SerializeToString()).maps(
        PICTURES, [0, 1, 2], signed=True, inputs={"facts": facts}
    )
    activation = torch.relu(network.conv(torch.tensor(PICTURES))).detach().requires_grad_()
    gate = torch.sigmoid(network.side(torch.tensor(facts)))
    scores = network.dense(activation.mean((2, 3)) * gate)
    scores[range(3), [0, 1, 2]].sum().backward()
    weights = activation.grad.mean((2, 3), keepdim=True)
    expected = (weights * activation).sum(1).detach().numpy()
    np.testing.assert_allclose(raw, expected, atol=1e-5 * np.abs(expected).max())


def test_one_of_several_outputs():
    plain = small_network()
    graph = plain.graph
    graph.initializer.append(from_array(np.array([-1], np.float32), "minus"))
    graph.node.append(oh.make_node("Mul", ["logits", "minus"], ["negated"]))
    graph.output.append(oh.make_tensor_value_info("negated", onnx.TensorProto.FLOAT, ["batch", 5]))
    second = engine(plain, output_name="negated")
    np.testing.assert_allclose(
        second.maps(PICTURES, 2, signed=True), -engine().maps(PICTURES, 2, signed=True), atol=1e-6
    )
    result = second.explain(PHOTO)
    assert set(result.outputs) == {"logits", "negated"}
    assert result.target == result.outputs["logits"].argmin()
