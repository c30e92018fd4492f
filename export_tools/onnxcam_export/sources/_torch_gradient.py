"""The gradient of a class score by torch's autograd: the oracle of both torch routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import ExportError, LayerError, TargetError

if TYPE_CHECKING:
    import torch

# Autograd nodes that keep the elements and their order: a softmax is looked for behind them.
RESHAPES = frozenset(
    {
        "ViewBackward0",
        "UnsafeViewBackward0",
        "ReshapeAliasBackward0",
        "SqueezeBackward0",
        "SqueezeBackward1",
        "SqueezeBackward2",
        "UnsqueezeBackward0",
        "CloneBackward0",
        "AliasBackward0",
        "ToCopyBackward0",
    }
)
PROBABILITIES = frozenset({"SoftmaxBackward0", "SigmoidBackward0"})
# Normalised already, so that the softmax of it is the probability.
LOG_PROBABILITIES = frozenset({"LogSoftmaxBackward0"})


def score_gradient(
    run: Callable[[], tuple[torch.Tensor, torch.Tensor]],
    targets: npt.NDArray[np.int64],
    score: str,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Activation and d score / d activation.

    Args:
        run: runs the model with autograd on; returns the scored output ``[N, classes]``
            (further axes of length 1 allowed) and the activation, a tensor that requires grad
            and from which the output was computed.
        targets: class index per image, ``[N]``; -1 for the highest score.
        score: ``"logit"`` differentiates what goes into a final softmax, log-softmax or
            sigmoid, found in the autograd graph (exact, nothing is inverted), or the output
            itself when there is none. ``"probability"`` differentiates the output when it
            ends in softmax or sigmoid, else the softmax of it.

    Returns:
        float32 arrays of the activation's shape.
    """
    import torch

    differentiated: Any
    with torch.enable_grad():
        output, activation = run()
        scores = flat_scores(output)
        if not scores.requires_grad:
            raise LayerError("the scored output does not depend on the layer")
        wanted = torch.as_tensor(np.asarray(targets, dtype=np.int64), device=scores.device)
        check_targets(wanted.cpu().numpy(), tuple(scores.shape))
        wanted = torch.where(wanted < 0, scores.argmax(dim=1), wanted)
        seed = torch.nn.functional.one_hot(wanted, scores.shape[1]).to(scores.dtype)
        final = _final_function(scores)
        kind = "" if final is None else final.name()
        if score == "logit" and final is not None:
            edge = torch.autograd.graph.GradientEdge(*final.next_functions[0])
            saved = final._saved_result
            differentiated, seed = edge, seed.to(saved).view_as(saved)
        else:
            appended = score == "probability" and kind not in PROBABILITIES
            differentiated = scores.softmax(dim=1) if appended else scores
        try:
            (gradient,) = torch.autograd.grad(
                differentiated, activation, seed, allow_unused=True, materialize_grads=True
            )
        except RuntimeError as error:  # as for a value needed later that was changed in place
            raise ExportError(f"autograd can't differentiate the model: {error}") from error
    return to_numpy(activation), to_numpy(gradient)


def flat_scores(output: torch.Tensor) -> torch.Tensor:
    """``[N, classes, 1, ...]`` as ``[N, classes]``, one score per image as ``[N, 1]``."""
    if output.ndim == 1:
        return output[:, None]
    if output.ndim < 2 or output[0].numel() != output.shape[1:].numel():
        raise ExportError(f"scores: expected [N, classes], got {list(output.shape)}")
    if max(output.shape[1:]) != output.shape[1:].numel():
        raise ExportError(
            f"scores: expected [N, classes], got {list(output.shape)}; "
            "an output with spatial axes has no one score per class"
        )
    return output.flatten(1)


def check_targets(targets: npt.NDArray[np.int64], shape: tuple[int, ...]) -> None:
    """Raise TargetError unless `targets` has one class index (or -1) per row of `shape`."""
    if targets.shape != shape[:1]:
        raise TargetError(
            f"targets: expected {shape[0]} class indices, got shape {list(targets.shape)}"
        )
    if targets.size and (targets.min() < -1 or targets.max() >= shape[1]):
        raise TargetError(
            f"targets: expected -1 (the highest score) to {shape[1] - 1}, got {targets.tolist()}"
        )


def to_numpy(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array


def _final_function(scores: torch.Tensor) -> Any:
    """The autograd node of a softmax, log-softmax or sigmoid that ends the model, or None."""
    node: Any = scores.grad_fn
    while node is not None and node.name() in RESHAPES:
        node = node.next_functions[0][0]
    if node is not None and node.name() in PROBABILITIES | LOG_PROBABILITIES:
        return node
    return None
