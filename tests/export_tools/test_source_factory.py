"""Models by name, and weights from files."""

from __future__ import annotations

import pickle
import sys

import keras
import numpy as np
import pytest
import torch
from torch import nn

from onnxcam.errors import ExportError, ModelError
from onnxcam_export.sources.factory import load_factory, load_weights

MODULE = """
import torch
from torch import nn

def make(classes=3, bias=True):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, classes, bias=bias))

class Models:
    small = staticmethod(make)

ready = make()
number = 7

def fail():
    raise ValueError("no such variant\\nsecond line")

def text():
    return "a model"
"""


@pytest.fixture
def module_name(tmp_path, monkeypatch):
    name = "onnxcam_test_factories"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / "onnxcam_test_broken.py").write_text("import onnxcam_no_such_module\n")
    (tmp_path / "onnxcam_test_raising.py").write_text("raise RuntimeError('on import')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != ""])
    yield name
    sys.modules.pop(name, None)


def make(classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, classes))


def test_factory_of_the_current_folder_with_arguments(module_name, tmp_path):
    model = load_factory(f"{module_name}:make", {"classes": 5, "bias": False})
    assert model[2].weight.shape == (5, 4)
    assert model[2].bias is None
    assert str(tmp_path) not in sys.path


def test_dotted_attribute_and_ready_model(module_name):
    assert isinstance(load_factory(f"{module_name}:Models.small"), nn.Sequential)
    assert load_factory(f"{module_name}:ready") is sys.modules[module_name].ready


@pytest.mark.parametrize(
    ("spec", "kwargs", "message"),
    [
        ("resnet18", {}, "expected MODULE:FACTORY"),
        (":make", {}, "expected MODULE:FACTORY"),
        ("onnxcam_no_such_module:make", {}, "no module named 'onnxcam_no_such_module'"),
        ("onnxcam_test_broken:make", {}, "'onnxcam_no_such_module' .needed by"),
        ("onnxcam_test_raising:make", {}, "importing failed: RuntimeError: on import"),
        ("{}:absent", {}, "has no 'absent'"),
        ("{}:number", {}, "not callable: int"),
        ("{}:fail", {}, r"fail\(\) failed: ValueError: no such variant$"),
        ("{}:make", {"depth": 2}, r"make\(depth=2\) failed: TypeError"),
        ("{}:make", {1: 2}, "expected names as keys"),
        ("{}:ready", {"classes": 2}, "takes no arguments"),
        ("{}:text", {}, "returned str"),
    ],
)
def test_bad_factories(module_name, spec, kwargs, message):
    with pytest.raises(ExportError, match=message):
        load_factory(spec.format(module_name), kwargs)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
    ],
)
def test_weights_round_trip(module_name, tmp_path, wrap):
    source = make()
    torch.save(wrap(source.state_dict()), tmp_path / "weights.pt")
    model = load_factory(f"{module_name}:make", {}, tmp_path / "weights.pt")
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_weights_that_do_not_fit_change_nothing(tmp_path):
    model = make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = make(4).state_dict()
    state["extra"] = state.pop("0.bias")
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(ExportError) as caught:
        load_weights(model, tmp_path / "weights.pt")
    message = str(caught.value)
    assert "1 missing (0.bias)" in message
    assert "1 unknown (extra)" in message
    assert "2 of another shape (2.bias, 2.weight)" in message
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Dangerous:
    def __reduce__(self):
        return (print, ("the file's code has run",))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 truncated", pickle.dumps(Dangerous())])
def test_weights_that_cannot_be_read(tmp_path, capsys, content):
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(ModelError, match="can't be read as weights"):
        load_weights(make(), tmp_path / "weights.pt")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [[1, 2], {"weights": 3}, {"state_dict": {"a": [1]}}])
def test_files_without_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="expected a state_dict"):
        load_weights(make(), tmp_path / "weights.pt")


def test_absent_weights_file(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        load_weights(make(), tmp_path / "absent.pt")


def test_keras_weights_round_trip(tmp_path):
    def build(units):
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, name="d")])

    source = build(3)
    source.save_weights(tmp_path / "model.weights.h5")
    model = build(3)
    load_weights(model, tmp_path / "model.weights.h5")
    for found, expected in zip(model.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ExportError, match="does not fit"):
        load_weights(build(5), tmp_path / "model.weights.h5")
