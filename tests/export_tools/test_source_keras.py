"""Keras models as sources, on the torch backend (TensorFlow: test_source_keras_tensorflow.py)."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import warnings
import zipfile

import keras
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from onnxcam.cli import main
from onnxcam.contract import METADATA_KEY, Contract
from onnxcam.errors import ExportError, LayerError, MissingExtraError, ModelError
from onnxcam_export import from_keras
from onnxcam_export.assemble import build
from onnxcam_export.sources import keras_model
from onnxcam_export.sources.keras_model import capture, choose_backend, layer_paths
from onnxcam_export.verify import verify_each

layers = keras.layers


def backbone(name: str = "backbone") -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(4, 3, padding="same", name="first"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.SeparableConv2D(6, 3, activation="gelu", name="second"),
        ],
        name=name,
    )


def nested(end: str | None = "softmax") -> keras.Model:
    picture = keras.Input((16, 16, 3), name="picture")
    x = layers.Dropout(0.5)(backbone()(picture))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    scores = layers.Dense(5, activation=end, name="scores")(x)
    return keras.Model(picture, scores, name="nested")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return nested()


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 16, 16, 3)).astype(np.float32)


def run(model: onnx.ModelProto, tensor: np.ndarray) -> dict[str, np.ndarray]:
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: tensor}), strict=True))


def forward(model, tensor):
    """Activations by hand, layer by layer through the nested model; then the scores."""
    found, x = {}, tensor
    for layer in model.get_layer("backbone").layers:
        x = found[f"backbone/{layer.name}"] = layer(x, **inference(layer))
    found["scores"] = model.get_layer("scores")(model.get_layer("pool")(x))
    return found


def inference(layer):
    return {"training": False} if isinstance(layer, layers.BatchNormalization) else {}


@pytest.fixture(scope="module")
def source(model):
    return capture(model, "backbone/first")


def test_what_the_source_says(source):
    assert [value.name for value in source.model.graph.input] == ["picture"]
    assert [value.name for value in source.model.graph.output] == ["scores", "backbone/first"]
    assert [(c.asked, c.name, c.tensor) for c in source.captured] == [("backbone/first",) * 3]
    assert (source.captured[0].channels_last, source.picture_layout) == (True, "NHWC")
    assert source.producer == {"keras": keras.__version__, "torch": torch.__version__}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_nested_activation_with_a_dynamic_batch(model, source, count):
    tensor = images(count)
    found, expected = run(source.model, tensor), forward(model, tensor)
    for name in ("scores", "backbone/first"):
        np.testing.assert_allclose(found[name], expected[name].detach(), atol=1e-5)


def test_model_comes_back_as_it_was(model):
    before = [part.training for part in model.modules()]
    calls = [layer.call for layer in model._flatten_layers()]
    weights = model.get_weights()
    source = capture(model, "second")
    source.captured[0].oracle(images(2), np.array([0, 1]), "logit")
    assert source.captured[0].name == "backbone/second"
    assert [part.training for part in model.modules()] == before
    assert [layer.call for layer in model._flatten_layers()] == calls
    assert not any("call" in vars(layer) for layer in model._flatten_layers())
    for found, expected in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(found, expected)


def difference_quotient(model, path, tensor, targets, direction, score):
    """d score / d activation along a direction by central differences, layer by layer."""
    values = []
    for step in (1e-2, -1e-2):
        x = tensor
        for layer in model.get_layer("backbone").layers:
            x = layer(x, **inference(layer))
            if f"backbone/{layer.name}" == path:
                x = x + step * torch.from_numpy(direction)
        logits = model.get_layer("pool")(x) @ model.get_layer("scores").kernel.value
        values.append(score(logits.detach().double().numpy()))
    rows = np.arange(len(targets))
    return (values[0] - values[1])[rows, targets] / 2e-2


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("end", ["softmax", "sigmoid", None])
def test_oracle_agrees_with_difference_quotients(end):
    keras.utils.set_random_seed(1)
    model, path = nested(end), "backbone/second"
    oracle = capture(model, path).captured[0].oracle
    tensor, targets = images(2, seed=1), np.array([0, 4])
    direction = np.random.default_rng(2).normal(size=(2, 14, 14, 6)).astype(np.float32)
    probability = (lambda z: 1 / (1 + np.exp(-z))) if end == "sigmoid" else softmax
    for score, function in (("logit", np.asarray), ("probability", probability)):
        _, gradient = oracle(tensor, targets, score)
        found = (gradient * direction).sum(axis=(1, 2, 3))
        expected = difference_quotient(model, path, tensor, targets, direction, function)
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_exported_gradient_is_the_oracle_s(model, source, score):
    exported = from_keras(model, "backbone/first", score=score)
    tensor, targets = images(3, seed=3), np.array([4, 0, 1])
    session = ort.InferenceSession(exported.SerializeToString())
    feeds = {"picture": tensor, "cam_target": targets}
    found = session.run(["cam_activation", "cam_gradient"], feeds)
    for value, expected in zip(
        found, source.captured[0].oracle(tensor, targets, score), strict=True
    ):
        expected = expected.transpose(0, 3, 1, 2)
        np.testing.assert_allclose(value, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_file_round_trip(model, source, tmp_path, suffix):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(tmp_path / f"model{suffix}")
    loaded = capture(tmp_path / f"model{suffix}", "first")
    assert loaded.captured[0].name == "backbone/first"
    found, expected = run(loaded.model, images(2)), run(source.model, images(2))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)


def test_last_convolution_passes_over_those_without_extent():
    picture = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, name="wide")(picture)
    scale = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Multiply()([x, layers.Conv2D(4, 1, name="squeeze")(scale)])
    model = keras.Model(picture, layers.Dense(2)(layers.Flatten()(x)))
    assert capture(model, "last_conv").captured[0].name == "wide"
    with pytest.raises(LayerError, match="no convolution"):
        capture(keras.Sequential([keras.Input((4,)), layers.Dense(2)]), "last_conv")


def test_channels_first():
    picture = keras.Input((3, 16, 16))
    x = layers.Conv2D(4, 3, data_format="channels_first", name="conv")(picture)
    x = layers.Activation("relu", name="act")(x)
    x = layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    source = capture(keras.Model(picture, layers.Dense(2)(x)), "act")
    assert (source.captured[0].channels_last, source.picture_layout) == (False, "NCHW")
    tensor = images(2).transpose(0, 3, 1, 2).copy()
    assert run(source.model, tensor)["act"].shape == (2, 4, 14, 14)


def test_ambiguous_names_are_refused_and_paths_are_not():
    picture = keras.Input((16, 16, 3))
    x = layers.Add()([backbone("left")(picture), backbone("right")(picture)])
    model = keras.Model(picture, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(LayerError, match=r"'second' is ambiguous.*left/second, right/second"):
        capture(model, "second")
    assert {"left", "left/first", "right/second"} <= set(layer_paths(model))
    assert capture(model, "right/second").captured[0].name == "right/second"


def test_name_that_no_layer_bears_is_left_to_the_graph(model):
    source = capture(model, "some_tensor")
    assert source.captured == ()
    assert [value.name for value in source.model.graph.output] == ["scores"]


def test_open_axes_need_a_size():
    picture = keras.Input((None, None, 3), name="picture")
    x = layers.Conv2D(4, 3, name="conv")(picture)
    model = keras.Model(picture, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(ExportError, match=r"open axes.*input_size"):
        capture(model, "conv")
    source = capture(model, "conv", input_size=(16, 20))
    assert run(source.model, np.zeros((2, 16, 20, 3), np.float32))["conv"].shape == (2, 14, 18, 4)


def test_size_that_contradicts_the_model(model):
    with pytest.raises(ExportError, match="takes 16x16, got 32x32"):
        capture(model, "first", input_size=(32, 32))


def test_layer_called_twice_explains_the_last_call():
    picture = keras.Input((16, 16, 3))
    conv = layers.Conv2D(3, 3, name="conv")
    x = layers.GlobalAveragePooling2D()(conv(conv(picture)))
    with pytest.warns(UserWarning, match="called 2 times"):
        source = capture(keras.Model(picture, layers.Dense(2)(x)), "conv")
    assert run(source.model, images(1))["conv"].shape == (1, 12, 12, 3)


def test_inputs_in_a_dict():
    inputs = {
        "picture": keras.Input((16, 16, 3), name="picture"),
        "age": keras.Input((1,), name="age"),
    }
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3, name="conv")(inputs["picture"]))
    model = keras.Model(inputs, layers.Dense(2)(layers.Concatenate()([x, inputs["age"]])))
    source = capture(model, "conv")
    assert "picture" in [value.name for value in source.model.graph.input]
    assert source.captured[0].oracle is None


def test_export_is_silent(model):
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        capture(model, "first")
    assert (out.getvalue(), err.getvalue()) == ("", "")


@keras.saving.register_keras_serializable("onnxcam_tests")
class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("build", "layer", "error", "message"),
    [
        (lambda: 3, None, ExportError, "expected a keras.Model.*got builtins.int"),
        (Subclassed, None, ExportError, "no symbolic inputs"),
        (lambda: keras.Sequential([layers.Dense(2)]), None, ExportError, "no symbolic inputs"),
        (nested, "picture", LayerError, "'picture' is not called"),
    ],
)
def test_bad_models(build, layer, error, message):
    with pytest.raises(error, match=message):
        capture(build(), layer)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.keras", None, "no such file"),
        ("model.onnx", b"", "expected a .keras or .h5 file"),
        ("empty.keras", b"", "can't load"),
        ("text.h5", b"no model", "can't load"),
        ("truncated.keras", b"PK\x03\x04", "can't load"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        capture(tmp_path / name)


def test_files_that_carry_code_are_refused(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x + 1)])
    model.save(tmp_path / "code.keras")
    with zipfile.ZipFile(tmp_path / "code.keras") as archive:
        assert "__lambda__" in json.dumps(json.loads(archive.read("config.json")))
    with pytest.raises(ModelError, match=r"can't load.*[Ll]ambda"):
        capture(tmp_path / "code.keras")


def test_backend_is_the_one_that_keras_runs_on():
    assert choose_backend() == "torch"


@pytest.mark.parametrize(
    ("environment", "installed", "expected"),
    [
        (None, {"keras", "torch"}, "torch"),
        (None, {"keras", "torch", "tensorflow"}, "torch"),
        (None, {"keras", "torch", "tensorflow", "tf2onnx"}, "tensorflow"),
        ("torch", {"keras", "torch", "tensorflow", "tf2onnx"}, "torch"),
        ("jax", {"keras", "torch"}, ExportError),
        ("tensorflow", {"keras", "torch"}, MissingExtraError),
        (None, {"keras"}, MissingExtraError),
        (None, {"torch"}, MissingExtraError),
    ],
)
def test_backend_before_keras_is_imported(monkeypatch, environment, installed, expected):
    monkeypatch.setattr(keras_model, "_installed", installed.__contains__)
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv("KERAS_BACKEND", environment or "")
    if isinstance(expected, str):
        assert choose_backend() == expected
    else:
        with pytest.raises(expected, match=r"set KERAS_BACKEND|pip install"):
            choose_backend()


# Several layers at once. The torch backend leaves none of their names in the graph.

SEVERAL = ["last_conv", "backbone/first", "norm"]
PATHS = ["backbone/second", "backbone/first", "backbone/norm"]


def autograd(model, path, tensor, targets):
    """Activation and gradient of the logits [N, h, w, C], layer by layer through the model."""
    x = torch.from_numpy(tensor)
    for layer in model.get_layer("backbone").layers:
        x = layer(x, **inference(layer))
        if f"backbone/{layer.name}" == path:
            x = activation = x.detach().requires_grad_()
    dense = model.get_layer("scores")
    logits = model.get_layer("pool")(x) @ dense.kernel.value + dense.bias.value
    chosen = logits[torch.arange(len(targets)), torch.from_numpy(targets)].sum()
    (gradient,) = torch.autograd.grad(chosen, activation)
    return activation.detach().numpy(), gradient.numpy()


def test_each_of_several_layers_is_captured(model):
    source = capture(model, SEVERAL)
    found = [(c.asked, c.name, c.tensor) for c in source.captured]
    assert found == [(asked, path, path) for asked, path in zip(SEVERAL, PATHS, strict=True)]
    assert [c.channels_last for c in source.captured] == [True] * 3
    assert [value.name for value in source.model.graph.output] == ["scores", *PATHS]
    assert not any("call" in vars(layer) for layer in model._flatten_layers())
    tensor, targets = images(2, seed=4), np.array([4, 0])
    values = run(source.model, tensor)
    for captured in source.captured:
        activation, gradient = autograd(model, captured.name, tensor, targets)
        np.testing.assert_allclose(values[captured.tensor], activation, atol=1e-5)
        oracle = captured.oracle(tensor, targets, "logit")
        np.testing.assert_allclose(oracle[1], gradient, atol=1e-5 * np.abs(gradient).max())


@pytest.mark.parametrize("emit", ["gradient", "weights"])
def test_exported_gradient_of_each_of_several_layers_is_autograd_s(model, emit):
    exported = from_keras(model, SEVERAL, emit=emit)
    tensor, targets = images(2, seed=5), np.array([1, 3])
    session = ort.InferenceSession(exported.SerializeToString())
    feeds = {"picture": tensor, "cam_target": targets}
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, feeds), strict=True))
    for index, path in enumerate(PATHS):
        activation, gradient = (
            value.transpose(0, 3, 1, 2) for value in autograd(model, path, tensor, targets)
        )
        suffix = f"_{index}" if index else ""
        value = found[f"cam_activation{suffix}"]
        np.testing.assert_allclose(value, activation, atol=1e-4 * np.abs(activation).max())
        expected = gradient if emit == "gradient" else gradient.mean((2, 3))
        value = found[f"cam_{emit}{suffix}"]
        np.testing.assert_allclose(value, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("emit", ["gradient", "weights"])
def test_verify_compares_each_layer_with_keras(model, emit):
    source = capture(model, ["first", "second"])
    found = verify_each(build(source, layer=["second", "first"], emit=emit), source)
    assert ["against keras's autograd" in each.oracle for each in found] == [True, True]
    assert [each.oracle.split("'")[1] for each in found] == PATHS[:2]
    assert max(each.error for each in found) < 1e-4


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (["first", "backbone/first"], "'backbone/first' is asked for twice: it is layer 'first'"),
        (["second", "last_conv"], "'last_conv' is asked for twice: it is layer 'second'"),
        (["second", "backbone"], "'backbone' is asked for twice: its tensor is that of layer 'sec"),
        (["second", "picture"], "'picture' is not called"),
        (["second", "no_such"], "no layer 'no_such'"),
    ],
)
def test_bad_lists_of_layers(model, layer, message):
    with pytest.raises(LayerError, match=message):
        from_keras(model, layer)
    assert not any("call" in vars(part) for part in model._flatten_layers())


def test_command_with_several_layers(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model.save("model.keras")
    command = ["export", "keras", "model.keras", "--verify", "-o", "out.onnx"]
    assert main([*command, "--layer", "second", "--layer", "backbone/first"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("against keras's autograd") == printed.count(": agrees") == 2
    properties = onnx.load("out.onnx").metadata_props
    document = Contract.loads(next(p.value for p in properties if p.key == METADATA_KEY))
    assert [layer.name for layer in document.layers] == PATHS[:2]
