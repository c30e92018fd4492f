"""Tutorial system 5: PyTorch ResNet-18, the last convolution found by itself, the logit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from helpers_networks import (
    open_session,
    pictures,
    relative_error,
    run_explaining,
    settle_torch,
    unit_map,
)
from helpers_torchvision import torchvision
from onnxcam import Engine
from onnxcam.contract import METADATA_KEY, Contract
from onnxcam_export import from_torch

LAYER = "layer4.1.conv2"


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(5)
    module = torchvision.models.resnet18()
    batch = torch.from_numpy(pictures((8, 224, 224, 3), seed=5).transpose(0, 3, 1, 2).copy())
    settle_torch(module, module.fc, (batch - 0.45) / 0.225)
    return module


@pytest.fixture(scope="module")
def exported(module):
    example = torch.zeros(1, 3, 224, 224)
    return from_torch(module, example, "last_conv", preprocess="imagenet")


@pytest.fixture(scope="module")
def picture():
    return Image.fromarray((255 * pictures((1, 256, 256, 3), seed=51)[0]).astype(np.uint8))


@pytest.fixture(scope="module")
def tensor(picture):
    transforms = torchvision.transforms
    prepare = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return prepare(picture)[None]


def tutorial(module, tensor, index):
    """Two hooks and a backward pass, as the tutorials write it; class, activation, gradient."""
    kept = {}
    layer = module.get_submodule(LAYER)
    forward = layer.register_forward_hook(lambda m, i, o: kept.update(activation=o.detach()))
    backward = layer.register_full_backward_hook(lambda m, i, o: kept.update(gradient=o[0]))
    module.zero_grad()
    logits = module.eval()(tensor)
    index = int(logits.argmax()) if index is None else index
    logits[0, index].backward()
    forward.remove()
    backward.remove()
    module.zero_grad()
    probability = float(logits.softmax(dim=1)[0, index].detach())
    return index, probability, kept["activation"][0].numpy(), kept["gradient"][0].numpy()


def test_the_last_convolution_is_found(exported):
    document = {entry.key: entry.value for entry in exported.metadata_props}[METADATA_KEY]
    assert Contract.loads(document).layer.name == LAYER


@pytest.fixture(scope="module")
def engine(exported):
    return Engine(exported.SerializeToString())


@pytest.fixture(scope="module")
def session(exported):
    return open_session(exported)


@pytest.mark.parametrize("index", [None, 0, 999])
def test_gradient_and_map_are_the_tutorials(module, session, engine, tensor, index):
    chosen, _, activation, gradient = tutorial(module, tensor, index)
    target = -1 if index is None else index
    scores, found_activation, found_gradient = run_explaining(session, tensor.numpy(), target)
    if index is None:
        assert int(scores.argmax()) == chosen
    assert relative_error(found_activation, activation) < 1e-4
    assert relative_error(found_gradient, gradient) < 1e-4
    raw = np.einsum("c,chw->hw", gradient.mean(axis=(1, 2)), activation)
    assert relative_error(engine.maps(tensor.numpy(), target, signed=True)[0], raw) < 1e-4
    found = engine.maps(tensor.numpy(), target)[0]
    assert np.abs(found - unit_map(raw)).max() < 1e-4


def test_the_predicted_probability_is_reported(module, engine, tensor, picture):
    chosen, probability, _, _ = tutorial(module, tensor, None)
    result = engine.explain(picture)
    assert result.target == chosen
    assert result.top(1)[0].probability == pytest.approx(probability, rel=1e-3)
