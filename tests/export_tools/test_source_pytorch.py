"""PyTorch modules as sources: what is captured, and that the module comes back as it was."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from helpers_torchvision import torchvision
from onnxcam.errors import ExportError, InputError, LayerError, TargetError
from onnxcam_export import from_torch
from onnxcam_export.sources.pytorch import capture, module_paths

EXAMPLE = torch.zeros(1, 3, 16, 16)


class Small(nn.Module):
    """Convolution, then a change in place, as DenseNet does it; dropout and batch norm."""

    def __init__(self, end: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.block = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(inplace=True))
        self.drop = nn.Dropout(0.5)
        self.squeeze = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 5)
        self.end = end or nn.Identity()
        self.unused = nn.Conv2d(3, 3, 1)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        x = self.first(picture)
        x.relu_()
        x = self.block(self.norm(x))
        x = x * torch.sigmoid(self.squeeze(x.mean((2, 3), keepdim=True)))
        return self.end(self.head(self.drop(x.mean((2, 3)))))


@pytest.fixture
def module():
    torch.manual_seed(0)
    return Small()


@pytest.fixture(scope="module")
def exported_once():
    """A module in training mode and what was captured of it, for tests that change neither."""
    torch.manual_seed(0)
    module = Small().train()
    return module, capture(module, EXAMPLE, "first")


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, 16, 16)).astype(np.float32)


def run(model: onnx.ModelProto, tensor: np.ndarray) -> dict[str, np.ndarray]:
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: tensor}), strict=True))


def test_outputs_input_and_activation_have_their_names(exported_once):
    _, source = exported_once
    assert [value.name for value in source.model.graph.input] == ["picture"]
    assert [value.name for value in source.model.graph.output] == ["output", "first"]
    assert (source.activation, source.layer_name) == ("first", "first")
    assert (source.channels_last, source.picture_layout) == (False, "NCHW")
    assert source.producer == {"torch": torch.__version__}
    assert source.model.opset_import[0].version == 18


@pytest.mark.parametrize("count", [1, 2, 5])
def test_batch_axis_is_dynamic_and_activation_is_the_one_before_changes_in_place(
    exported_once, count
):
    module, source = exported_once
    tensor = images(count)
    found = run(source.model, tensor)
    module = copy.deepcopy(module).eval()
    with torch.no_grad():
        expected = module.first(torch.from_numpy(tensor))
        scores = module(torch.from_numpy(tensor))
    assert expected.min() < 0  # the ReLU after it works in place
    np.testing.assert_allclose(found["first"], expected, atol=1e-5)
    np.testing.assert_allclose(found["output"], scores, atol=1e-5)


def test_module_comes_back_as_it_was(module):
    module.train()
    module.norm.eval()
    module.first.weight.requires_grad_(False)
    flags = {name: part.training for name, part in module.named_modules()}
    frozen = {name: weight.requires_grad for name, weight in module.named_parameters()}
    state = {name: value.clone() for name, value in module.state_dict().items()}
    source = capture(module, EXAMPLE, "block.0")
    source.oracle(images(2), np.array([1, 2]), "logit")
    assert {name: part.training for name, part in module.named_modules()} == flags
    assert {n: weight.requires_grad for n, weight in module.named_parameters()} == frozen
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert all(weight.grad is None for weight in module.parameters())
    assert not any(part._forward_hooks for part in module.modules())


@pytest.mark.parametrize("layer", ["block.0", "unused"])
def test_module_comes_back_as_it_was_after_errors(layer):
    class Failing(Small):
        def forward(self, picture):
            raise RuntimeError("no way")

    module = Failing().train()
    with pytest.raises(ExportError, match="no way"):
        capture(module, EXAMPLE, layer)
    assert all(part.training for part in module.modules())
    assert not any(part._forward_hooks for part in module.modules())


def test_frozen_weights_have_a_gradient(exported_once):
    module, source = exported_once
    tensor, targets = images(2), np.array([0, 4])
    expected = source.oracle(tensor, targets, "logit")[1]
    frozen = capture(copy.deepcopy(module).requires_grad_(False), EXAMPLE, "first")
    found = frozen.oracle(tensor, targets, "logit")[1]
    assert np.abs(found).max() > 0
    np.testing.assert_array_equal(found, expected)


def difference_quotient(module, layer, tensor, targets, direction, score):
    """d score / d activation along a direction, in float64, by central differences."""
    wide = module.double().eval()
    values = []
    for step in (1e-5, -1e-5):
        hook = wide.get_submodule(layer).register_forward_hook(
            lambda m, i, o, step=step: o + step * torch.from_numpy(direction)
        )
        with torch.no_grad():
            out = wide(torch.from_numpy(tensor).double()).numpy()
        hook.remove()
        values.append(score(out)[np.arange(len(targets)), targets])
    module.float()
    return (values[0] - values[1]) / 2e-5


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


IDENTITY = np.asarray
LOGIT_OF_SIGMOID = lambda p: np.log(p) - np.log1p(-p)  # noqa: E731
# log p_t differs from the logit by the log of the sum, so the softmax case compares the logits of
# the same module without its end instead of inverting it.
ENDS = {
    "logits": (None, IDENTITY, softmax),
    "sigmoid": (nn.Sigmoid(), LOGIT_OF_SIGMOID, IDENTITY),
    "softmax": (nn.Softmax(dim=1), None, IDENTITY),
    "log_softmax": (nn.LogSoftmax(dim=1), None, np.exp),
}


@pytest.mark.parametrize(
    ("end", "layer"),
    [*((end, "first") for end in ENDS), ("softmax", "block.0"), ("logits", "block")],
)
def test_oracle_agrees_with_difference_quotients(end, layer):
    torch.manual_seed(1)
    final, logit_of, probability_of = ENDS[end]
    module = Small(final)
    tensor, targets = images(3, seed=1), np.array([0, 2, 4])
    oracle = capture(module, EXAMPLE, layer).oracle
    for score, wanted in (("probability", probability_of), ("logit", logit_of)):
        _, gradient = oracle(tensor, targets, score)
        direction = np.random.default_rng(2).normal(size=gradient.shape)
        if wanted is None:
            module.end, wanted = nn.Identity(), IDENTITY
        expected = difference_quotient(module, layer, tensor, targets, direction, wanted)
        found = (gradient.astype(np.float64) * direction).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_oracle_takes_the_highest_score_for_minus_one(exported_once):
    module, source = exported_once
    oracle = source.oracle
    tensor = images(3)
    with torch.no_grad():
        best = copy.deepcopy(module).eval()(torch.from_numpy(tensor)).argmax(1).numpy()
    found = oracle(tensor, np.full(3, -1), "logit")
    np.testing.assert_array_equal(found[1], oracle(tensor, best, "logit")[1])
    with pytest.raises(TargetError, match="to 4"):
        oracle(tensor, np.array([0, 1, 5]), "logit")
    with pytest.raises(TargetError, match="3 class indices"):
        oracle(tensor, np.array([0]), "logit")


@pytest.mark.parametrize("layer", ["first", "block.1", "last_conv"])
def test_exported_gradient_is_the_oracle_s(module, layer):
    source = capture(module, EXAMPLE, layer)
    exported = from_torch(module, EXAMPLE, layer)
    tensor, targets = images(3, seed=3), np.array([4, 0, 1])
    session = ort.InferenceSession(exported.SerializeToString())
    feeds = {"picture": tensor, "cam_target": targets}
    found = session.run(["cam_activation", "cam_gradient"], feeds)
    for value, expected in zip(found, source.oracle(tensor, targets, "logit"), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-4 * np.abs(expected).max())


def test_exported_gradient_of_densenet_is_the_oracle_s():
    torch.manual_seed(2)
    module = torchvision.models.DenseNet(8, (2,), 16, num_classes=7)
    example, layer = torch.zeros(1, 3, 64, 64), "features.denseblock1.denselayer2.conv1"
    source = capture(module, example, layer)
    exported = from_torch(module, example, layer)
    tensor = np.random.default_rng(4).normal(size=(2, 3, 64, 64)).astype(np.float32)
    targets = np.array([0, 6])
    session = ort.InferenceSession(exported.SerializeToString())
    found = session.run(["cam_gradient"], {"x": tensor, "cam_target": targets})[0]
    _, expected = source.oracle(tensor, targets, "logit")
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_last_convolution_passes_over_those_without_extent(module):
    # `squeeze` is called after block.0, on a map of one position.
    assert capture(module, EXAMPLE, "last_conv").layer_name == "block.0"
    with pytest.raises(LayerError, match="no convolution"):
        capture(nn.Sequential(nn.Flatten(), nn.Linear(768, 2)), EXAMPLE, "last_conv")


def test_layer_that_is_no_module_path_is_left_to_the_graph(module):
    source = capture(module, EXAMPLE, "some_tensor")
    assert (source.activation, source.layer_name, source.oracle) == (None, None, None)
    assert [value.name for value in source.model.graph.output] == ["output"]
    assert "block.0" in module_paths(module)


def test_names_that_the_exporter_uses_itself_do_not_clash():
    class Clash(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv2d = nn.Conv2d(3, 4, 3)
            self.relu = nn.Conv2d(4, 4, 3)
            self.output = nn.Conv2d(4, 4, 3)

        def forward(self, x):
            return self.output(self.relu(torch.relu(self.conv2d(x)))).mean((2, 3))

    for layer in ("conv2d", "relu", "output"):
        module = Clash().eval()
        found = run(capture(module, EXAMPLE, layer).model, images(2))
        kept = []
        module.get_submodule(layer).register_forward_hook(lambda m, i, o, kept=kept: kept.append(o))
        module(torch.from_numpy(images(2)))
        np.testing.assert_allclose(list(found.values())[-1], kept[0].detach(), atol=1e-5)


def test_layer_that_is_the_output():
    module = nn.Sequential(nn.Conv2d(3, 4, 3))
    found = run(capture(module, EXAMPLE, "0").model, images(2))
    np.testing.assert_array_equal(found["output"], found["0"])


def test_layer_called_twice_explains_the_last_call():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 3), nn.ReLU()

        def forward(self, x):
            return self.act(self.conv(self.act(x)) + 1).mean((2, 3))

    module = Twice()
    with pytest.warns(UserWarning, match="called 2 times"):
        found = run(capture(module, EXAMPLE, "act").model, images(1))
    assert found["act"].shape == (1, 3, 14, 14)


def test_several_outputs_in_a_dict():
    class Dict(Small):
        def forward(self, picture):
            scores = super().forward(picture)
            return {"scores": scores, "more": [scores + 1, None], "count": 3}

    source = capture(Dict(), EXAMPLE, "first")
    assert [v.name for v in source.model.graph.output] == ["output", "output_1", "first"]


def test_module_with_a_fixed_batch_is_exported_with_a_warning():
    class Fixed(Small):
        def forward(self, picture):
            return super().forward(picture.reshape(1, 3, 16, 16))

    with pytest.warns(UserWarning, match="batch axis is fixed to 1, because"):
        source = capture(Fixed(), EXAMPLE, "block.0")
    assert source.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    assert run(source.model, images(1))["block.0"].shape == (1, 6, 12, 12)


def test_fixed_batch_on_request(module):
    source = capture(module, torch.zeros(2, 3, 16, 16), "first", dynamic_batch=False)
    assert source.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2


def test_several_inputs_have_no_oracle():
    class Two(Small):
        def forward(self, picture, scale):
            return super().forward(picture) * scale

    source = capture(Two(), (EXAMPLE, torch.ones(1, 1)), "first")
    assert [value.name for value in source.model.graph.input] == ["picture", "scale"]
    assert source.oracle is None
    session = ort.InferenceSession(source.model.SerializeToString())
    feeds = {"picture": images(3), "scale": np.ones((3, 1), np.float32)}
    assert session.run(["first"], feeds)[0].shape[0] == 3


def test_export_is_silent(module):
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        capture(module, EXAMPLE, "first")
    assert (out.getvalue(), err.getvalue()) == ("", "")


def test_an_array_and_a_compiled_module_are_taken(module):
    compiled = torch.compile(module, backend="eager")
    assert capture(compiled, EXAMPLE.numpy(), "block.0").layer_name == "block.0"


@pytest.mark.parametrize(
    ("build", "example", "layer", "error", "message"),
    [
        (lambda: "resnet18", EXAMPLE, None, ExportError, "expected a torch.nn.Module, got str"),
        (Small, "picture.png", None, InputError, "got str"),
        (Small, (), None, InputError, "got nothing"),
        (Small, torch.zeros(0, 3, 16, 16), None, InputError, r"got shape \[0, 3, 16, 16\]"),
        (Small, torch.zeros(1, 4, 16, 16), None, ExportError, r"\[1, 4, 16, 16\].*4 channels"),
        (Small, EXAMPLE.to(torch.uint8), None, ExportError, "torch.uint8"),
        (Small, EXAMPLE, "unused", LayerError, "'unused' is not called"),
        (lambda: torch.jit.trace(Small(), EXAMPLE), EXAMPLE, None, ExportError, "scripted"),
        (lambda: nn.LSTM(16, 4), torch.zeros(1, 3, 16), None, None, ""),
    ],
)
def test_bad_input(build, example, layer, error, message):
    if error is None:
        assert capture(build(), example, layer).activation is None
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        module = build()
    with pytest.raises(error, match=message):
        capture(module, example, layer)


def test_layer_that_returns_no_tensor():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTM(16, 4)

        def forward(self, x):
            return self.cell(x)[0].mean(1)

    with pytest.raises(LayerError, match="'cell' returns tuple"):
        capture(Recurrent(), torch.zeros(1, 3, 16), "cell")


def test_module_that_autograd_refuses():
    class Spoiled(Small):
        def forward(self, picture):
            x = torch.relu(self.first(picture))
            x += 1  # ReLU's derivative needs the value from before
            return x.mean((2, 3))

    source = capture(Spoiled(), EXAMPLE, "first")
    with pytest.raises(ExportError, match=r"autograd can't differentiate.*inplace"):
        source.oracle(images(1), np.array([0]), "logit")


def test_output_with_spatial_axes_has_no_score():
    source = capture(nn.Sequential(nn.Conv2d(3, 4, 3)), EXAMPLE, "0")
    with pytest.raises(ExportError, match="spatial axes"):
        source.oracle(images(1), np.array([0]), "logit")
