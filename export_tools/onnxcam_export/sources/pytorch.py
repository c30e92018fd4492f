"""Models that are PyTorch modules."""

from __future__ import annotations

import contextlib
import inspect
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import ExportError, InputError, LayerError
from onnxcam_export.sources import (
    Captured,
    GradientOracle,
    LayerLike,
    Source,
    layer_names,
    refuse_twins,
)
from onnxcam_export.sources._graph_names import activation_names
from onnxcam_export.sources._torch_export import (
    evaluating,
    export_onnx,
    first_line,
    import_torch,
)
from onnxcam_export.sources._torch_gradient import score_gradient

if TYPE_CHECKING:
    import torch

LAST_CONV = "last_conv"


def capture(
    module: torch.nn.Module,
    example_input: Any,
    layer: LayerLike = None,
    *,
    opset: int = 18,
    dynamic_batch: bool = True,
) -> Source:
    """Export a module to ONNX, the activations of some of its layers as the last outputs.

    The module is exported in eval mode and comes back as it was: training flags, hooks,
    requires_grad flags, device and dtype.

    Args:
        module: a `torch.nn.Module`.
        example_input: tensor or array ``[N, C, *spatial]`` as the module takes it, or a tuple
            of them for a module with several inputs. Its batch size does not matter when the
            batch axis is dynamic.
        layer: a module path (``layer4.1.conv2``); ``"last_conv"`` for the convolution that is
            called last and whose output still has spatial extent; several of them; or None for
            no further output. A name that is no module path is not captured: it may be the name
            of a tensor, which is looked up in the graph. Of a layer that is called several
            times, the last call counts, and a warning says so.
        opset: ONNX opset.
        dynamic_batch: whether the batch axis is dynamic. Where the module does not allow it,
            a warning says why and the batch is fixed to the example's.

    Returns:
        A source with inputs named as forward's parameters, outputs ``output``, ``output_1``,
        ..., and an activation named as its layer. The layer's oracle differentiates the first
        output with autograd: with ``score="logit"`` what goes into a final softmax, log-softmax
        or sigmoid, or the output itself when there is none; with ``"probability"`` the output
        when it ends in softmax or sigmoid, else the softmax of it. Where the layer's tensor is
        changed in place afterwards, both activation and gradient are those before the change.
        There is no oracle with several inputs.

    Raises:
        MissingExtraError: torch or onnxscript is not installed.
        InputError: the example is not a tensor.
        LayerError: a layer is not called, does not return one tensor, or is asked for twice.
        ExportError: not a module, forward fails on the example, or torch.onnx can't export it.
    """
    torch = import_torch()
    module = _plain_module(torch, module)
    inputs = _tensors(torch, example_input)
    with evaluating(module):
        found = _find_paths(torch, module, inputs, layer)
        recorders = [_Recorder(torch, path) for path in found.values()]
        with _recording(module, recorders), torch.no_grad():
            outputs = _run(torch, module, inputs)
        for recorder in recorders:
            recorder.check()
        variadic, input_names = _input_names(module, len(inputs))
        output_names = [
            "output" if index == 0 else f"output_{index}" for index in range(len(outputs))
        ]
        activations = activation_names(list(found.values()), [*input_names, *output_names])
        with _recording(module, recorders), _returning_tensors(torch, module, recorders):
            model = export_onnx(
                module,
                inputs,
                input_names=input_names,
                output_names=[*output_names, *activations],
                opset=opset,
                dynamic_batch=dynamic_batch,
                variadic=variadic,
            )
    captured = [
        Captured(
            asked=asked,
            name=path,
            tensor=activation,
            channels_last=False,
            oracle=_oracle(torch, module, inputs[0], path) if len(inputs) == 1 else None,
        )
        for (asked, path), activation in zip(found.items(), activations, strict=True)
    ]
    return Source(
        model=model,
        captured=tuple(captured),
        producer={"torch": str(torch.__version__)},
        picture_layout="NCHW",
    )


def module_paths(module: torch.nn.Module) -> list[str]:
    """The paths that name a layer of `module`, as ``layer4.1.conv2``, in definition order."""
    return [path for path, _ in module.named_modules(remove_duplicate=False) if path]


class _Recorder:
    """A forward hook that keeps what a layer returned.

    The network goes on with a clone, so that an operation in place on the layer's output
    (DenseNet's ReLU) leaves the kept tensor alone. With `leaf`, the kept tensor starts a new
    autograd graph: the gradient reaches it even when all weights are frozen.
    """

    def __init__(self, torch: Any, path: str, leaf: bool = False) -> None:
        self.torch = torch
        self.path = path
        self.leaf = leaf
        self.outputs: list[Any] = []

    def __call__(self, layer: Any, inputs: Any, output: Any) -> Any:
        if not isinstance(output, self.torch.Tensor):
            self.outputs.append(output)
            return output
        kept = output.detach().clone().requires_grad_() if self.leaf else output
        self.outputs.append(kept)
        return kept.clone()

    def check(self) -> None:
        """Raise LayerError if there is no tensor, warn if the layer was called several times."""
        if not self.outputs:
            raise LayerError(
                f"layer {self.path!r} is not called when the module runs; name a layer that is"
            )
        if not isinstance(self.outputs[-1], self.torch.Tensor):
            raise LayerError(
                f"layer {self.path!r} returns {type(self.outputs[-1]).__name__}, not one tensor; "
                "name a layer inside it"
            )
        if len(self.outputs) > 1:
            warnings.warn(
                f"layer {self.path!r} is called {len(self.outputs)} times; "
                "the last call is explained",
                stacklevel=4,
            )


@contextlib.contextmanager
def _recording(module: torch.nn.Module, recorders: Sequence[_Recorder]) -> Iterator[None]:
    handles = [
        module.get_submodule(recorder.path).register_forward_hook(recorder)
        for recorder in recorders
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _returning_tensors(
    torch: Any, module: torch.nn.Module, recorders: Sequence[_Recorder]
) -> Iterator[None]:
    """Let the module return a tuple of its output tensors, then the kept activations.

    A hook on the module itself needs no wrapper, so that names of weights and scopes in the
    graph are the module's own.
    """

    def flatten(_: Any, inputs: Any, output: Any) -> Any:
        activations = [recorder.outputs[-1] for recorder in recorders]
        return (*_flat_tensors(torch, output), *activations)

    handle = module.register_forward_hook(flatten)
    try:
        yield
    finally:
        handle.remove()


def _plain_module(torch: Any, module: Any) -> Any:
    """The module itself, out of DataParallel and torch.compile.

    Raises:
        ExportError: not a module, or a scripted one.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise ExportError(
            "a scripted or traced module can't be exported: pass the Python module it was made of"
        )
    if not isinstance(module, torch.nn.Module):
        raise ExportError(f"expected a torch.nn.Module, got {type(module).__name__}")
    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while isinstance(module, parallel) or hasattr(module, "_orig_mod"):
        module = module.module if isinstance(module, parallel) else module._orig_mod
    return module


def _tensors(torch: Any, example_input: Any) -> tuple[torch.Tensor, ...]:
    several = isinstance(example_input, (tuple, list))
    values = tuple(example_input) if several else (example_input,)
    if not values:
        raise InputError("example_input: expected a tensor or a tuple of tensors, got nothing")
    tensors = []
    for value in values:
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(np.ascontiguousarray(value))
        if not isinstance(value, torch.Tensor):
            raise InputError(
                "example_input: expected a tensor, an array or a tuple of them, "
                f"got {type(value).__name__}"
            )
        tensors.append(value.detach())
    if tensors[0].ndim == 0 or 0 in tensors[0].shape:
        raise InputError(
            f"example_input: expected [N, C, *spatial], got shape {list(tensors[0].shape)}"
        )
    return tuple(tensors)


def _run(torch: Any, module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    try:
        output = module(*inputs)
    except Exception as error:
        shapes = ", ".join(f"{list(tensor.shape)} {tensor.dtype}" for tensor in inputs)
        raise ExportError(
            f"{type(module).__name__} fails on the example input ({shapes}): {first_line(error)}"
        ) from error
    tensors = _flat_tensors(torch, output)
    if not tensors:
        raise ExportError(
            f"{type(module).__name__} returns {type(output).__name__} without a tensor in it"
        )
    return tensors


def _flat_tensors(torch: Any, output: Any) -> list[torch.Tensor]:
    """The tensors of a module's output: of tuples, lists and dicts, in order."""
    leaves = torch.utils._pytree.tree_leaves(output)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _input_names(module: torch.nn.Module, count: int) -> tuple[bool, list[str]]:
    """Whether forward takes ``*args``, and one name per input."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return True, ["input" if index == 0 else f"input_{index}" for index in range(count)]
    return False, [parameter.name for parameter in parameters][:count]


def _find_paths(
    torch: Any, module: torch.nn.Module, inputs: Sequence[torch.Tensor], layer: LayerLike
) -> dict[str, str]:
    """The module path for each of the names asked for that is one, or `last_conv`."""
    known = set(module_paths(module))
    found = {}
    for asked in layer_names(layer):
        path = _last_convolution(torch, module, inputs) if asked == LAST_CONV else asked
        if path in known:
            found[asked] = path
    refuse_twins({asked: module.get_submodule(path) for asked, path in found.items()})
    return found


def _last_convolution(torch: Any, module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> str:
    """The path of the convolution called last among those whose output has spatial extent.

    The 1x1 outputs of squeeze-and-excitation blocks and of convolutional classifiers show
    no place, and are passed over.
    """
    convolution = torch.nn.modules.conv._ConvNd
    called: list[str] = []
    handles = []
    for path, part in module.named_modules():
        if path and isinstance(part, convolution):

            def hook(_: Any, inputs: Any, output: Any, path: str = path) -> None:
                if math.prod(output.shape[2:]) > 1:
                    called.append(path)

            handles.append(part.register_forward_hook(hook))
    try:
        with torch.no_grad():
            _run(torch, module, inputs)
    finally:
        for handle in handles:
            handle.remove()
    if not called:
        raise LayerError(
            f"{type(module).__name__} calls no convolution whose output has spatial extent; "
            "name the layer"
        )
    return called[-1]


def _oracle(
    torch: Any, module: torch.nn.Module, example: torch.Tensor, path: str
) -> GradientOracle:
    def oracle(
        images: npt.NDArray[np.float32], targets: npt.NDArray[np.int64], score: str
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        recorder = _Recorder(torch, path, leaf=True)

        def run() -> tuple[torch.Tensor, torch.Tensor]:
            tensor = torch.from_numpy(np.array(images)).to(example)
            outputs = _run(torch, module, [tensor])
            return outputs[0], recorder.outputs[-1]

        with evaluating(module), _recording(module, [recorder]):
            return score_gradient(run, targets, score)

    return oracle
