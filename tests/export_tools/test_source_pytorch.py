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
from onnxcam.cli import main
from onnxcam.contract import METADATA_KEY, Contract
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
    assert [(c.asked, c.name, c.tensor) for c in source.captured] == [("first",) * 3]
    assert (source.captured[0].channels_last, source.picture_layout) == (False, "NCHW")
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
    source.captured[0].oracle(images(2), np.array([1, 2]), "logit")
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
    expected = source.captured[0].oracle(tensor, targets, "logit")[1]
    frozen = capture(copy.deepcopy(module).requires_grad_(False), EXAMPLE, "first")
    found = frozen.captured[0].oracle(tensor, targets, "logit")[1]
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
    oracle = capture(module, EXAMPLE, layer).captured[0].oracle
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
    oracle = source.captured[0].oracle
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
    for value, expected in zip(
        found, source.captured[0].oracle(tensor, targets, "logit"), strict=True
    ):
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
    _, expected = source.captured[0].oracle(tensor, targets, "logit")
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_last_convolution_passes_over_those_without_extent(module):
    # `squeeze` is called after block.0, on a map of one position.
    assert capture(module, EXAMPLE, "last_conv").captured[0].name == "block.0"
    with pytest.raises(LayerError, match="no convolution"):
        capture(nn.Sequential(nn.Flatten(), nn.Linear(768, 2)), EXAMPLE, "last_conv")


def test_layer_that_is_no_module_path_is_left_to_the_graph(module):
    source = capture(module, EXAMPLE, "some_tensor")
    assert source.captured == ()
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
    assert source.captured[0].oracle is None
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
    assert capture(compiled, EXAMPLE.numpy(), "block.0").captured[0].name == "block.0"


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
        assert capture(build(), example, layer).captured == ()
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
        source.captured[0].oracle(images(1), np.array([0]), "logit")


def test_output_with_spatial_axes_has_no_score():
    source = capture(nn.Sequential(nn.Conv2d(3, 4, 3)), EXAMPLE, "0")
    with pytest.raises(ExportError, match="spatial axes"):
        source.captured[0].oracle(images(1), np.array([0]), "logit")


# Several layers at once.

SEVERAL = ["block.0", "first", "norm", "squeeze"]  # the last is a map of one position


def autograd(module, layer, tensor, targets):
    """Activation and gradient of the logits by a hook of two lines."""
    module, kept = copy.deepcopy(module).eval(), []

    def keep(_, inputs, output):
        kept.append(output)
        return output.clone()  # a change in place changes the clone

    module.get_submodule(layer).register_forward_hook(keep)
    scores = module(torch.from_numpy(tensor))
    chosen = scores[torch.arange(len(targets)), torch.from_numpy(targets)].sum()
    (gradient,) = torch.autograd.grad(chosen, kept[-1])
    return kept[-1].detach().numpy(), gradient.numpy()


@pytest.fixture(scope="module")
def several():
    """A module, and what was captured of it: not in the order of the calls."""
    torch.manual_seed(0)
    module = Small().train()
    return module, capture(module, EXAMPLE, SEVERAL)


def contract(model: onnx.ModelProto) -> Contract:
    return Contract.loads(next(p.value for p in model.metadata_props if p.key == METADATA_KEY))


def test_each_of_several_layers_is_captured(several):
    module, source = several
    assert [(c.asked, c.name, c.tensor) for c in source.captured] == [(n,) * 3 for n in SEVERAL]
    assert [v.name for v in source.model.graph.output] == ["output", *SEVERAL]
    assert module.training
    assert not any(part._forward_hooks for part in module.modules())
    tensor, targets = images(2, seed=5), np.array([4, 1])
    found = run(source.model, tensor)
    for captured in source.captured:
        expected = autograd(module, captured.name, tensor, targets)
        np.testing.assert_allclose(found[captured.tensor], expected[0], atol=1e-5)
        # The oracle of one layer lets the gradient through the other layers.
        for value, wanted in zip(captured.oracle(tensor, targets, "logit"), expected, strict=True):
            np.testing.assert_allclose(value, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("emit", ["gradient", "weights"])
def test_exported_gradient_of_each_of_several_layers_is_autograd_s(emit):
    torch.manual_seed(6)
    module, names = Small(), ["block.0", "first", "block"]
    exported = from_torch(module, EXAMPLE, names, emit=emit)
    tensor, targets = images(2, seed=7), np.array([0, 3])
    session = ort.InferenceSession(exported.SerializeToString())
    feeds = {"picture": tensor, "cam_target": targets}
    found = dict(
        zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True)
    )
    for index, layer in enumerate(names):
        activation, gradient = autograd(module, layer, tensor, targets)
        suffix = f"_{index}" if index else ""
        value = found[f"cam_activation{suffix}"]
        np.testing.assert_allclose(value, activation, atol=1e-4 * np.abs(activation).max())
        expected = gradient if emit == "gradient" else gradient.mean((2, 3))
        value = found[f"cam_{emit}{suffix}"]
        np.testing.assert_allclose(value, expected, atol=1e-4 * np.abs(expected).max())


def test_what_is_no_module_path_is_left_to_the_graph_among_several(module):
    names = ["last_conv", "some_tensor", "norm"]
    source = capture(module, EXAMPLE, names)
    assert [(c.asked, c.name) for c in source.captured] == [
        ("last_conv", "block.0"),
        ("norm", "norm"),
    ]
    relu = next(n.output[0] for n in source.model.graph.node if n.op_type == "Relu")
    exported = from_torch(module, EXAMPLE, ["last_conv", relu, "norm"])
    found = contract(exported).layers
    assert [(layer.tensor, layer.name) for layer in found][::2] == [
        ("block.0", "block.0"),
        ("norm", "norm"),
    ]
    assert found[1].tensor == relu


class Shared(nn.Module):
    """One module under two paths."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 3, 3)
        self.other = self.one
        self.pair = nn.Sequential(self.one, nn.ReLU())

    def forward(self, x):
        return self.pair(x).mean((2, 3))


class Halves(nn.Module):
    def forward(self, x):
        return x.chunk(2, dim=1)


class Halved(nn.Module):
    """A layer that returns a tuple."""

    def __init__(self):
        super().__init__()
        self.conv, self.halves = nn.Conv2d(3, 4, 3), Halves()

    def forward(self, x):
        left, right = self.halves(self.conv(x))
        return (left * right).mean((2, 3))


@pytest.mark.parametrize(
    ("build", "layer", "message"),
    [
        (Small, ["first", "first"], "'first' is asked for twice; name"),
        (Small, ["last_conv", "block.0"], "'block.0' is asked for twice: it is layer 'last_conv'"),
        (Small, ["block.1", "block"], "'block' is asked for twice: its tensor is that of layer"),
        (Shared, ["other", "one"], "'one' is asked for twice: it is layer 'other'"),
        (Small, [], "got an empty list"),
        (Small, ["first", None], "expected names, got None"),
        (Small, ["first", "unused"], "'unused' is not called"),
        (Halved, ["conv", "halves"], "'halves' returns tuple"),
    ],
)
def test_bad_lists_of_layers(build, layer, message):
    module = build()
    with pytest.raises(LayerError, match=message):
        from_torch(module, EXAMPLE, layer)
    assert not any(part._forward_hooks for part in module.modules())


def test_warning_names_the_one_layer_that_is_called_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 3), nn.ReLU()

        def forward(self, x):
            return self.act(self.conv(self.act(x)) + 1).mean((2, 3))

    with pytest.warns(UserWarning, match="called") as caught:
        source = capture(Twice(), EXAMPLE, ["conv", "act"])
    assert [str(each.message).split(";")[0] for each in caught] == ["layer 'act' is called 2 times"]
    assert run(source.model, images(1))["act"].shape == (1, 3, 14, 14)


def test_names_of_outputs_and_layers_do_not_clash_among_several():
    class Clash(nn.Module):
        def __init__(self):
            super().__init__()
            self.output = nn.Conv2d(3, 4, 3)
            self.output_activation = nn.Conv2d(4, 5, 3)

        def forward(self, x):
            return self.output_activation(self.output(x)).mean((2, 3))

    source = capture(Clash(), EXAMPLE, ["output", "output_activation"])
    found = run(source.model, images(1))
    assert [found[c.tensor].shape[1] for c in source.captured] == [4, 5]
    assert len(found) == 3


def test_command_with_several_layers(tmp_path, monkeypatch, capsys):
    (tmp_path / "onnxcam_test_nets.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3),\n"
        "                         nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(720, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    command = ["export", "torch", "onnxcam_test_nets:make", "--input-size", "3x16x16", "--verify"]
    command += ["--layer", "2", "--layer", "0", "--emit", "weights", "-o", "out.onnx"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    for layer in ("2", "0"):
        assert f"verify: layer '{layer}', against torch's autograd (largest weight)" in printed
    assert printed.count(": agrees") == 2
    assert [layer.name for layer in contract(onnx.load("out.onnx")).layers] == ["2", "0"]
    assert main([*command[:5], "--layer", "0", "--layer", "0", "-o", "again.onnx"]) == 2
    assert "'0' is asked for twice" in capsys.readouterr().err
    assert not (tmp_path / "again.onnx").exists()
