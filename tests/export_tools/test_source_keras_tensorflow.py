"""Keras models on TensorFlow, through tf2onnx, in a process of their own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "helpers_tensorflow_route.py"

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("tensorflow", "tf2onnx")),
    reason="tensorflow and tf2onnx are not installed",
)


@pytest.fixture(scope="module")
def answer():
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # nothing else may be printed there


def test_gradients_are_the_tutorial_s(answer):
    errors = {key: value for key, value in answer.items() if isinstance(value, float)}
    assert len(errors) == 34
    assert {key: value for key, value in errors.items() if not value < 1e-4} == {}


def test_what_the_source_says(answer):
    assert answer["backend"] == "tensorflow"
    assert answer["last_conv"] == "grouped"
    assert answer["names"] == ["picture", "scores", "grouped"]
    assert answer["batch"] == "batch"
    assert answer["channels_last"] is True
    assert answer["producer"] == ["keras", "tensorflow"]
    assert answer["restored"] is True


def test_several_layers(answer):
    assert answer["several"] == [
        ["last_conv", "grouped", "grouped"],
        ["first", "first", "first"],
        ["gelu", "gelu", "gelu"],
    ]
    verified = [key for key in answer if key.startswith("layer '")]
    assert len(verified) == 6
    assert all("against keras's autograd" in key for key in verified)
    assert answer["twice"].startswith("LayerError: layer 'last_conv' is asked for twice")


def test_large_matrices_become_initializers(answer):
    assert answer["large inputs"] == ["picture"]
    assert answer["large weights"] == [[1200, 6]]


def test_tensors_that_are_no_variables_become_initializers(answer):
    assert answer["held inputs"] == ["picture"]


def test_opset_that_tf2onnx_does_not_write(answer):
    assert answer["opset 19"].startswith("ExportError: opset: tf2onnx writes up to 18")
