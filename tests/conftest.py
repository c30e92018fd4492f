"""Keras runs on torch in these tests; the TensorFlow route runs in a process of its own."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "torch"

# The files that take longest, in order. With several workers a file goes as a whole to one of
# them: one of these at the end would leave the others idle.
_FIRST = (
    "test_native.py",
    "test_system_6_keras_densenet201.py",
    "test_compiled.py",
    "test_onnx_node_tests.py",
    "test_native_cli.py",
    "test_system_1_keras_xception.py",
    "test_system_4_keras_vgg19.py",
    "test_system_3_keras_vgg16.py",
    "test_source_keras_tensorflow.py",
)


def pytest_configure(config):
    """Let xdist hand files out as collected, not those of most tests first."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """The long files first; all else stays in its order."""
    place = {name: i for i, name in enumerate(_FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))
