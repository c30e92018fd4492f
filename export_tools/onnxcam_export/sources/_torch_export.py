"""torch.onnx.export, quiet and with a dynamic batch: shared by PyTorch and Keras on torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import onnx

from onnxcam.errors import ExportError, MissingExtraError
from onnxcam_export.sources._graph_names import INPUT, OUTPUT, placeholders, rename

if TYPE_CHECKING:
    import torch

NOISY_LOGGERS = ("torch.onnx", "torch.export", "torch.fx", "torch._dynamo", "onnxscript", "onnx_ir")


def import_torch() -> Any:
    """The torch package, once it is clear that torch.onnx can work too.

    Raises:
        MissingExtraError: torch or onnxscript is not installed.
    """
    try:
        import onnxscript  # noqa: F401  # torch.onnx.export(dynamo=True) needs it
        import torch
    except ImportError as error:
        raise MissingExtraError(
            f"exporting from PyTorch needs {error.name or 'torch'}, which is not installed: "
            "pip install 'onnxcam[torch]'"
        ) from error
    return torch


def export_onnx(
    module: torch.nn.Module,
    inputs: Sequence[torch.Tensor],
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    opset: int,
    dynamic_batch: bool,
    variadic: bool = False,
) -> onnx.ModelProto:
    """Export `module(*inputs)`, with a dynamic batch axis if the module allows it.

    Args:
        module: the module, in eval mode; its hooks run and may add outputs.
        inputs: example inputs. Those as long as the first along axis 0 share its batch axis.
        input_names: one name per input.
        output_names: one name per tensor that the module returns.
        opset: ONNX opset.
        dynamic_batch: whether the batch axis is to be dynamic. Where that fails, a warning
            says why and the batch is fixed to that of the example.
        variadic: whether forward takes its inputs as ``*args``.

    Raises:
        ExportError: torch.onnx cannot export the module.
    """
    torch = import_torch()
    arguments: dict[str, Any] = {
        "input_names": placeholders(INPUT, input_names),
        "output_names": placeholders(OUTPUT, output_names),
        "opset_version": opset,
    }
    reason = ""
    if dynamic_batch:
        batch = inputs[0].shape[0] if inputs[0].ndim else None
        shared = [tensor.ndim > 0 and tensor.shape[0] == batch for tensor in inputs]
        # A batch of one would be specialised to the number 1 while tracing.
        traced = tuple(
            torch.cat([tensor, tensor]) if batched and batch == 1 else tensor
            for tensor, batched in zip(inputs, shared, strict=True)
        )
        shapes: Any = tuple({0: "batch"} if batched else {} for batched in shared)
        try:
            shapes = (shapes,) if variadic else shapes
            model = _export(torch, module, traced, dynamic_shapes=shapes, **arguments)
        except Exception as error:  # whatever tracing may raise, the fixed batch is worth a try
            reason = first_line(error)
    if not dynamic_batch or reason:
        try:
            model = _export(torch, module, tuple(inputs), **arguments)
        except Exception as error:
            raise ExportError(
                f"torch.onnx cannot export {type(module).__name__}: {first_line(error)}"
            ) from error
    if reason:
        warnings.warn(
            f"the batch axis is fixed to {inputs[0].shape[0]}, because exporting "
            f"{type(module).__name__} with a dynamic one failed: {reason}",
            stacklevel=3,
        )
    wanted = dict(zip(arguments["input_names"], input_names, strict=True))
    rename(model, wanted | dict(zip(arguments["output_names"], output_names, strict=True)))
    return model


def _export(
    torch: Any, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], **arguments: Any
) -> onnx.ModelProto:
    with quiet():
        program = torch.onnx.export(
            module, inputs, dynamo=True, external_data=False, verbose=False, **arguments
        )
        model: onnx.ModelProto = program.model_proto
    return model


@contextlib.contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Eval mode; afterwards every submodule's training flag is as it was."""
    before = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for part, training in before:
            part.training = training


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of its message that says something.

    torch.onnx wraps the cause in pages of advice; the innermost cause tells the most.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = (line.strip() for line in str(error).splitlines())
    line = next((line for line in lines if line), "")
    return f"{type(error).__name__}: {line[:300]}" if line else type(error).__name__


@contextlib.contextmanager
def quiet(loggers: Sequence[str] = NOISY_LOGGERS) -> Iterator[None]:
    """Keep a framework's exporter from printing, warning and logging."""
    before = {name: logging.getLogger(name).level for name in loggers}
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        try:
            for name in before:
                logging.getLogger(name).setLevel(logging.CRITICAL)
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)
