"""The shipped files: small, valid, what MODELS.md says, and their maps point."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

import onnxcam_models
from helpers_shipped_networks import (
    clutter_features,
    clutter_logits,
    held_out_scenes,
    mnist_probabilities,
    pointing,
    questions,
    weights_of,
)
from onnxcam.errors import ModelError
from onnxcam_models import scenes

NAMES = onnxcam_models.names()


def session(name: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        onnxcam_models.path(name), providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_valid_small_and_plain(name):
    shipped = onnxcam_models.network(name)
    assert shipped.path.stat().st_size < 1_000_000
    model = onnx.load(shipped.path)
    onnx.checker.check_model(model, full_check=True)
    assert [(x.domain, x.version) for x in model.opset_import] == [("", 18)]
    assert model.ir_version == 10
    assert not model.metadata_props
    assert b"/site-packages/" not in model.SerializeToString()
    assert shipped.layer in {tensor for node in model.graph.node for tensor in node.output}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_description_fits_the_file(name, batch):
    shipped = onnxcam_models.network(name)
    (picture,) = session(name).get_inputs()
    shape = (batch, shipped.preprocess.channels, *shipped.preprocess.size)
    assert tuple(picture.shape[1:]) == shape[1:]
    (output,) = session(name).run(None, {picture.name: np.zeros(shape, np.float32)})
    assert output.shape == (batch, len(shipped.labels))
    # probabilities where no activation is said to be missing
    assert (shipped.activation is None) == bool(np.allclose(output.sum(1), 1, atol=1e-5))


def test_unknown_names_are_refused_with_a_hint():
    with pytest.raises(ModelError, match=r"'digits'.*digits-in-clutter, mnist-style.*did you mean"):
        onnxcam_models.path("digits")


def test_clutter_computes_what_its_architecture_says():
    pictures, _, _ = questions(held_out_scenes(8, seed=3))
    weights = weights_of("digits-in-clutter")
    expected = clutter_logits(weights, clutter_features(weights, torch.from_numpy(pictures)))
    (found,) = session("digits-in-clutter").run(None, {"picture": pictures})
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)


def test_mnist_style_computes_what_its_architecture_says():
    pictures = np.random.default_rng(0).random((5, 1, 28, 28), np.float32)
    expected = mnist_probabilities(weights_of("mnist-style"), torch.from_numpy(pictures))
    (found,) = session("mnist-style").run(None, {"picture": pictures})
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-6)


def test_mnist_style_reads_unseen_handwriting():
    digits = load_digits()
    bitmaps, labels = scenes.split(digits.images, digits.target, held_out=True)
    pictures = np.stack([scenes.mnist_style(x) for x in bitmaps])[:, None].astype(np.float32) / 255
    (found,) = session("mnist-style").run(None, {"picture": pictures})
    assert (found.argmax(1) == labels).mean() > 0.97


def test_clutter_recognises_unseen_handwriting():
    made = held_out_scenes(500, seed=4)
    pictures = np.stack([scene.picture for scene in made])[:, None].astype(np.float32) / 255
    (found,) = session("digits-in-clutter").run(None, {"picture": pictures})
    truth = np.stack([scene.target for scene in made])
    assert average_precision_score(truth, found, average="macro") > 0.99


def test_grad_cam_by_autograd_points_at_the_digits():
    """The pointing game over 500 fresh scenes, computed by PyTorch alone."""
    pictures, digits, asked = questions(held_out_scenes(500, seed=5))
    weights = weights_of("digits-in-clutter")
    activation = clutter_features(weights, torch.from_numpy(pictures)).requires_grad_()
    score = clutter_logits(weights, activation).gather(1, torch.from_numpy(digits)[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, activation)
    maps = torch.einsum("nchw,nc->nhw", activation, gradient.mean((2, 3))).relu().detach()
    assert pointing(maps, digits, asked) >= 0.95


def test_grad_cam_of_the_exported_file_points_at_the_digits(tmp_path):
    """The same game, with the gradient that the exporter wrote into the file."""
    from onnxcam_export import from_onnx

    shipped = onnxcam_models.network("digits-in-clutter")
    file = tmp_path / "explaining.onnx"
    from_onnx(shipped.path, layer=shipped.layer, activation=shipped.activation, output=file)
    explaining = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    pictures, digits, asked = questions(held_out_scenes(500, seed=6))
    activation, gradient = (
        torch.from_numpy(x)
        for x in explaining.run(
            ["cam_activation", "cam_gradient"], {"picture": pictures, "cam_target": digits}
        )
    )
    maps = torch.einsum("nchw,nc->nhw", activation, gradient.mean((2, 3))).relu()
    assert pointing(maps, digits, asked) >= 0.95


def test_the_engine_points_at_the_digits(tmp_path):
    """The whole way that a user goes: export, Engine, pictures, heatmaps at the picture's size."""
    from onnxcam import Engine
    from onnxcam_export import from_onnx

    shipped = onnxcam_models.network("digits-in-clutter")
    file = tmp_path / "explaining.onnx"
    from_onnx(
        shipped.path,
        layer=shipped.layer,
        preprocess=shipped.preprocess,
        labels=shipped.labels,
        activation=shipped.activation,
        output=file,
    )
    engine = Engine(file)
    hits, found = [], []
    for scene in held_out_scenes(100, seed=7):
        for digit in scene.digits:
            result = engine.explain(scene.picture, target=digit)
            hits.append(scene.hit(digit, result.heatmap))
            assert (result.target, result.label) == (digit, str(digit))
            found.append(result.probability)
    assert np.mean(hits) >= 0.95
    assert np.mean(np.array(found) > 0.5) > 0.9
