"""The framework's autograd as an oracle that is not told which layer it is about.

Every tensor that a torch function returns during the forward pass is kept. The exported layer's
activation is then looked up among them by its values, so the oracle shares no notion of layer
names, module paths or hooks with the exporter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.overrides import TorchFunctionMode

from onnxcam_export.sources._torch_gradient import score_gradient

# Relative to a picture's largest value, for most of the pictures. Runtimes differ by 1e-5, in a
# hundred layers of random weights by 1e-2 and for some picture by far more; neighbours by 1.
MATCH = 2e-2

Array = npt.NDArray[Any]
Found = tuple[int, tuple[int, ...]]  # which tensor, and the order of its axes


class Record(TorchFunctionMode):
    """Keeps the tensors of rank 3 or more that lead to the score, in the order of their making."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[torch.Tensor] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, torch.Tensor) and value.ndim > 2 and value.requires_grad:
                self.tensors.append(value)
        return result


class Autograd:
    """One forward pass of a network, ready to be differentiated by any tensor in it."""

    def __init__(self, forward: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> None:
        self.record = Record()
        with torch.enable_grad(), self.record:
            self.output = forward(x.clone().requires_grad_())

    def find(self, activation: Array) -> list[Found]:
        """The tensors with these values, each with the axes' order in which it has them.

        Several can be: a slice of a concatenation has the values of what was concatenated, but
        not its gradient, since that is used elsewhere too.
        """
        wanted = torch.as_tensor(np.ascontiguousarray(activation))
        scale = wanted.abs().flatten(1).amax(1).clamp_min(1e-30)
        found: list[Found] = []
        for index, tensor in enumerate(self.record.tensors):
            if tensor.numel() != wanted.numel() or sorted(tensor.shape) != sorted(wanted.shape):
                continue
            for order in _orders(tensor.ndim):
                turned = tensor.detach().permute(order)
                if turned.shape != wanted.shape:
                    continue
                off = (turned.to(wanted) - wanted).abs().flatten(1).amax(1)
                if float((off / scale).median()) <= MATCH:
                    found.append((index, order))
                    break
        return found

    def gradient(self, found: Found, targets: Array, score: str) -> Array:
        """d score / d tensor, in the axes' order that was found."""
        index, order = found
        tensor = self.record.tensors[index]
        (grad,) = _differentiate(self.output, tensor, targets, score)
        return grad.permute(order).double().numpy()


def _differentiate(
    output: torch.Tensor, tensor: torch.Tensor, targets: Array, score: str
) -> tuple[torch.Tensor]:
    kept: list[torch.Tensor] = []
    original = torch.autograd.grad

    def grad(*args: Any, **kwargs: Any) -> Any:
        (value,) = original(*args, retain_graph=True, **kwargs)
        kept.append(value.detach())
        return (value,)

    torch.autograd.grad = grad  # keeps float64 as it is, and the graph for the next question
    try:
        score_gradient(lambda: (output, tensor), targets, score)
    finally:
        torch.autograd.grad = original
    return (kept[0],)


def _orders(rank: int) -> Sequence[tuple[int, ...]]:
    """As it is, channels first to last, and last to first."""
    axes = tuple(range(rank))
    return (axes, (0, *axes[2:], 1), (0, rank - 1, *axes[1:-1]))


def relative(found: Array, expected: Array) -> float:
    """Largest error relative to the largest expected value."""
    highest = float(np.abs(expected).max())
    if highest == 0:
        return 0.0 if not np.abs(found).max() else float("inf")
    return float(np.abs(found.astype(np.float64) - expected).max()) / highest
