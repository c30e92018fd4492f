"""What the scored output says of the classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.contract import Output
from onnxcam.errors import ModelError
from onnxcam.session import TensorInfo


def count_classes(info: TensorInfo) -> int | None:
    """The number of classes of an output [N, C], [N, C, 1, 1] or [N]; None where it is open."""
    if len(info.shape) == 1:
        return 1
    sides = [side for side in info.shape[1:] if side != 1]
    if not sides:
        return 1
    return sides[0] if len(sides) == 1 else None


def as_rows(output: NDArray[Any], contract: Output) -> NDArray[np.float32]:
    """An output [N, C], [N, C, 1, 1] or [N] as float32 [N, C], dequantised where it is integers.

    Raises:
        ModelError: more than one axis beside the batch is longer than 1.
    """
    if output.ndim == 0 or sum(side != 1 for side in output.shape[1:]) > 1:
        raise ModelError(
            f"the scored output has the shape {list(output.shape)}; expected one score per class, "
            "[N, C] or [N, C, 1, 1]"
        )
    rows = output.reshape(len(output), -1).astype(np.float32)
    if (contract.scale, contract.zero_point) == (1.0, 0):
        return rows
    return (rows - np.float32(contract.zero_point)) * np.float32(contract.scale)


def probabilities(scores: NDArray[np.float32], output: Output) -> NDArray[np.float64] | None:
    """Probabilities [C] of scores [C]: as they are, or by the contract's function, or None."""
    if output.kind in ("softmax", "sigmoid"):
        return scores.astype(np.float64)
    if output.kind != "logits" or output.activation is None:
        return None
    values = scores.astype(np.float64)
    if output.activation == "sigmoid":
        # The two halves of the line, so that neither exponential overflows.
        small = np.exp(-np.abs(values))
        return np.where(values >= 0, 1 / (1 + small), small / (1 + small))
    with np.errstate(invalid="ignore"):  # inf - inf: NaN, reported with the map
        powers = np.exp(values - values.max())
        return np.asarray(powers / powers.sum())
