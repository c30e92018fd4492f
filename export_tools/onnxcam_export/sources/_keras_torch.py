"""Keras on the torch backend: exported and differentiated as a torch module."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxcam_export.sources import GradientOracle
from onnxcam_export.sources._keras_layers import Recorder, intercepted
from onnxcam_export.sources._torch_export import evaluating, export_onnx
from onnxcam_export.sources._torch_gradient import score_gradient

Call = Callable[[Sequence[Any]], list[Any]]


def is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def export(
    model: Any,
    call: Call,
    layer: Any | None,
    path: str | None,
    examples: Sequence[npt.NDArray[Any]],
    input_names: Sequence[str],
    output_names: Sequence[str],
    opset: int,
) -> onnx.ModelProto:
    """The model as ONNX, the layer's activation last.

    Args:
        model: a `keras.Model` whose backend is torch.
        call: runs the model on tensors, inference mode, and lists its output tensors.
        layer: the layer to capture, and `path` its path, or None.
        examples: one array per input.
        input_names: one name per input.
        output_names: one name per output, the activation's last.
        opset: ONNX opset.
    """
    import keras
    import torch

    recorder = Recorder(path or "", is_tensor)

    class Wrapper(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model  # a torch module itself: its weights are found

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            outputs = call(inputs)
            return (*outputs, *recorder.outputs[-1:])

    wrapper = Wrapper()
    tensors = [keras.ops.convert_to_tensor(example) for example in examples]
    capturing = contextlib.nullcontext() if layer is None else intercepted(layer, recorder.keep)
    with evaluating(wrapper), capturing:
        return export_onnx(
            wrapper,
            tensors,
            input_names=input_names,
            output_names=output_names,
            opset=opset,
            dynamic_batch=True,
            variadic=True,
        )


def oracle(model: Any, call: Call, layer: Any, path: str) -> GradientOracle:
    """Activation and gradient by torch's autograd, see `_torch_gradient.score_gradient`."""

    def compute(
        images: npt.NDArray[np.float32], targets: npt.NDArray[np.int64], score: str
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        import keras

        recorder = Recorder(path, is_tensor, lambda output: output.detach().requires_grad_())

        def run() -> tuple[Any, Any]:
            tensor = keras.ops.convert_to_tensor(images, dtype=model.inputs[0].dtype)
            outputs = call([tensor])
            return outputs[0], recorder.outputs[-1]

        with evaluating(model), intercepted(layer, recorder.keep):
            return score_gradient(run, targets, score)

    return compute
