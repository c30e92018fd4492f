"""Models of Keras 3, on the torch backend or on TensorFlow."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam.errors import ExportError, LayerError, MissingExtraError, ModelError
from onnxcam_export.sources import Captured, LayerLike, Source, layer_names, refuse_twins
from onnxcam_export.sources import _keras_tensorflow as on_tensorflow
from onnxcam_export.sources import _keras_torch as on_torch
from onnxcam_export.sources._graph_names import activation_names
from onnxcam_export.sources._keras_layers import (
    channels_last,
    find_layer,
    last_convolution,
    layers_by_path,
    recording,
)
from onnxcam_export.sources._torch_export import first_line, import_torch, quiet
from onnxcam_export.sources.pytorch import LAST_CONV

BACKENDS = ("tensorflow", "torch")
INSTALL = "pip install 'onnxcam[keras]'"


def choose_backend() -> str:
    """Choose Keras' backend and set KERAS_BACKEND, if Keras is not imported yet.

    Keras that is imported already has its backend; else the environment variable
    KERAS_BACKEND decides; else it is TensorFlow where both tensorflow and tf2onnx are
    installed, else torch.

    Returns:
        The backend's name, ``tensorflow`` or ``torch``.

    Raises:
        MissingExtraError: keras is not installed, or no backend for it.
        ExportError: the backend in use cannot be exported from (jax, openvino, ...).
    """
    if not _installed("keras"):
        raise MissingExtraError(f"exporting from Keras needs keras: {INSTALL}")
    if "keras" in sys.modules:
        backend = str(sys.modules["keras"].backend.backend())
    elif os.environ.get("KERAS_BACKEND"):
        backend = os.environ["KERAS_BACKEND"]
    elif _installed("tensorflow") and _installed("tf2onnx"):
        backend = "tensorflow"
    elif _installed("torch"):
        backend = "torch"
    else:
        raise MissingExtraError(
            f"Keras needs a backend to export from: {INSTALL}, or tensorflow and tf2onnx"
        )
    if backend not in BACKENDS:
        raise ExportError(
            f"Keras runs on {backend!r}, which onnxcam can't export from: "
            "set KERAS_BACKEND to torch or tensorflow before Keras is imported"
        )
    if not _installed(backend):
        raise MissingExtraError(
            f"Keras is to run on {backend}, which is not installed: {INSTALL}, "
            "or set KERAS_BACKEND to another backend"
        )
    os.environ.setdefault("KERAS_BACKEND", backend)
    if backend == "tensorflow":  # its native code writes to stderr on import
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return backend


def capture(
    model_or_path: Any,
    layer: LayerLike = None,
    *,
    opset: int = 18,
    input_size: tuple[int, int] | None = None,
) -> Source:
    """Export a Keras model to ONNX, the activations of some of its layers as the last outputs.

    Args:
        model_or_path: a functional or sequential `keras.Model`, or the path of a ``.keras`` or
            ``.h5`` file (loaded in safe mode).
        layer: a layer's name (``block5_conv3``) or path (``vgg16/block5_conv3`` in a nested
            model); ``"last_conv"`` for the convolution that is called last and whose output
            has spatial extent; several of them; or None for no further output. A name that no
            layer bears is not captured: it may be the name of a tensor. Of a layer that is
            called several times, the last call counts, and a warning says so.
        opset: ONNX opset.
        input_size: height and width, for a model whose input leaves them open.

    Returns:
        A source whose inputs and outputs bear Keras' names, batch axis dynamic, an activation
        named as its layer's path. The layer's oracle differentiates the first output with the
        backend's autograd: with ``score="probability"`` the output (or the softmax of it when
        the model ends in neither softmax nor sigmoid), with ``"logit"`` what goes into that
        softmax, log-softmax or sigmoid. There is no oracle with several inputs.

    Raises:
        MissingExtraError: keras or what its backend needs is not installed.
        ModelError: the file is missing or can't be loaded.
        LayerError: a layer is ambiguous, not called, does not return one tensor, or is asked for
            twice.
        ExportError: the backend can't be exported from, or the model can't be exported.
    """
    backend = choose_backend()
    if backend == "torch":
        import_torch()
    import keras

    model = load_model(model_or_path)
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise ExportError(
            f"{model.name!r} has no symbolic inputs and outputs: expected a functional model or "
            "a built Sequential; call it on a keras.Input and make a keras.Model of the two"
        )
    last = channels_last(keras, model)
    shapes = _input_shapes(model, input_size, last)
    examples = [
        np.zeros([1 if side is None else side for side in shape], dtype=tensor.dtype)
        for shape, tensor in zip(shapes, model.inputs, strict=True)
    ]

    def call(tensors: Sequence[Any]) -> list[Any]:
        packed = keras.tree.pack_sequence_as(_input_structure(model), list(tensors))
        return list(keras.tree.flatten(model(packed, training=False)))

    def run_example() -> list[Any]:
        try:
            with _no_gradient(backend), quiet(on_tensorflow.NOISY_LOGGERS):
                return call([keras.ops.convert_to_tensor(example) for example in examples])
        except LayerError:
            raise
        except Exception as error:
            raise ExportError(
                f"{model.name!r} fails on zeros of shape "
                f"{', '.join(str(list(example.shape)) for example in examples)}: "
                f"{first_line(error)}"
            ) from error

    found = _find_layers(keras, model, layer, run_example)
    layers = dict(found.values())
    route: Any = on_torch if backend == "torch" else on_tensorflow
    with recording(layers, route.is_tensor) as recorders:
        outputs = run_example()
    for recorder in recorders:
        recorder.check()
    input_names = _unique([str(tensor.name) for tensor in model.inputs], "input")
    output_names = _unique(_output_names(model, len(outputs)), "output", input_names)
    activations = activation_names(list(layers), [*input_names, *output_names])
    all_names = [*output_names, *activations]
    if backend == "torch":
        exported = on_torch.export(model, call, layers, examples, input_names, all_names, opset)
    else:
        exported = on_tensorflow.export(model, call, layers, input_names, shapes, all_names, opset)
    captured = [
        Captured(
            asked=asked,
            name=path,
            tensor=activation,
            channels_last=channels_last(keras, model, target),
            oracle=route.oracle(model, call, target, path) if len(shapes) == 1 else None,
        )
        for (asked, (path, target)), activation in zip(found.items(), activations, strict=True)
    ]
    return Source(
        model=exported,
        captured=tuple(captured),
        producer={"keras": str(keras.__version__), backend: str(sys.modules[backend].__version__)},
        picture_layout="NHWC" if last else "NCHW",
    )


def load_model(model_or_path: Any) -> Any:
    """A `keras.Model` as it is, or loaded from a ``.keras`` or ``.h5`` file in safe mode.

    Raises:
        ModelError: the file is missing, of another kind, damaged, or needs code to load.
        ExportError: neither a path nor a Keras 3 model.
    """
    import keras

    if isinstance(model_or_path, keras.Model):
        return model_or_path
    if not isinstance(model_or_path, (str, os.PathLike)):
        kind = type(model_or_path)
        raise ExportError(
            "expected a keras.Model of Keras 3 or a path, "
            f"got {kind.__module__}.{kind.__qualname__}"
        )
    path = Path(model_or_path)
    if path.suffix not in (".keras", ".h5", ".hdf5"):
        raise ModelError(f"{path}: expected a .keras or .h5 file")
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    try:
        with quiet(on_tensorflow.NOISY_LOGGERS):
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # zipfile, h5py, json and Keras each raise their own
        raise ModelError(f"{path}: Keras can't load it as a model: {first_line(error)}") from error


def layer_paths(model: Any) -> list[str]:
    """The paths that name a layer of a `keras.Model`, those of nested models included."""
    return list(layers_by_path(model))


def _find_layers(
    keras: Any, model: Any, layer: LayerLike, run: Callable[[], Any]
) -> dict[str, tuple[str, Any]]:
    """Path and layer for each of the names asked for that a layer of the model bears."""
    found = {}
    for asked in layer_names(layer):
        name = last_convolution(keras, model, run) if asked == LAST_CONV else asked
        path_and_layer = find_layer(model, name)
        if path_and_layer is not None:
            found[asked] = path_and_layer
    refuse_twins({asked: target for asked, (_, target) in found.items()})
    return found


def _installed(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def _no_gradient(backend: str) -> contextlib.AbstractContextManager[Any]:
    if backend != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()


def _input_structure(model: Any) -> Any:
    """How the model wants its inputs packed: one tensor, a list, a dict."""
    functional = getattr(model, "_functional", None) or model  # inside a Sequential
    structure = getattr(functional, "_inputs_struct", None)
    if structure is not None:
        return structure
    return model.inputs[0] if len(model.inputs) == 1 else list(model.inputs)


def _input_shapes(
    model: Any, input_size: tuple[int, int] | None, last: bool
) -> list[list[int | None]]:
    """Shapes of the inputs, None for the batch only.

    Raises:
        ExportError: an axis is open and `input_size` does not fill it, or contradicts it.
    """
    shapes = [[None, *tensor.shape[1:]] for tensor in model.inputs]
    first = shapes[0]
    if input_size is not None and len(first) == 4:
        axes = (1, 2) if last else (2, 3)
        for axis, side in zip(axes, input_size, strict=True):
            if first[axis] not in (None, side):
                raise ExportError(
                    f"input size: {model.name!r} takes {first[axes[0]]}x{first[axes[1]]}, "
                    f"got {input_size[0]}x{input_size[1]}"
                )
            first[axis] = side
    for tensor, shape in zip(model.inputs, shapes, strict=True):
        if None in shape[1:]:
            raise ExportError(
                f"input {tensor.name!r} of {model.name!r} has open axes {tuple(tensor.shape)}: "
                "pass input_size (height, width)"
            )
    return shapes


def _output_names(model: Any, count: int) -> list[str]:
    names = [str(name) for name in getattr(model, "output_names", None) or []]
    return names if len(names) == count else ["output"] * count


def _unique(names: list[str], default: str, taken: Sequence[str] = ()) -> list[str]:
    """The names, each once: repeated ones take the suffix ``_1``, ``_2``, ..."""
    result: list[str] = []
    for name in names:
        base = candidate = name or default
        number = 0
        while candidate in result or candidate in taken:
            number += 1
            candidate = f"{base}_{number}"
        result.append(candidate)
    return result
