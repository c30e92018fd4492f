"""Keras on the torch backend: exported and differentiated as a torch module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxcam_export.sources import GradientOracle
from onnxcam_export.sources._keras_layers import recording
from onnxcam_export.sources._torch_export import evaluating, export_onnx
from onnxcam_export.sources._torch_gradient import score_gradient

Call = Callable[[Sequence[Any]], list[Any]]


def is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def export(
    model: Any,
    call: Call,
    layers: Mapping[str, Any],
    examples: Sequence[npt.NDArray[Any]],
    input_names: Sequence[str],
    output_names: Sequence[str],
    opset: int,
) -> onnx.ModelProto:
    """The model as ONNX, the layers' activations behind its own outputs.

    Args:
        model: a `keras.Model` whose backend is torch.
        call: runs the model on tensors, inference mode, and lists its output tensors.
        layers: the layers to capture, by their paths.
        examples: one array per input.
        input_names: one name per input.
        output_names: one name per output, those of the activations last.
        opset: ONNX opset.
    """
    import keras
    import torch

    class Wrapper(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model  # a torch module itself: its weights are found

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            outputs = call(inputs)
            return (*outputs, *(recorder.outputs[-1] for recorder in recorders))

    wrapper = Wrapper()
    tensors = [keras.ops.convert_to_tensor(example) for example in examples]
    with evaluating(wrapper), recording(layers, is_tensor) as recorders:
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

        def leaf(output: Any) -> Any:
            return output.detach().requires_grad_()

        def run() -> tuple[Any, Any]:
            tensor = keras.ops.convert_to_tensor(images, dtype=model.inputs[0].dtype)
            outputs = call([tensor])
            return outputs[0], recorder.outputs[-1]

        with evaluating(model), recording({path: layer}, is_tensor, leaf) as (recorder,):
            return score_gradient(run, targets, score)

    return compute
