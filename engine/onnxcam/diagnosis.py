"""Why a map says nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# reason -> what it means and what to do
REASONS: dict[str, str] = {
    "all_negative": (
        "nothing at this layer speaks for the class: the map is negative or zero everywhere; "
        "the raw map (preset 'signed') shows what speaks against it"
    ),
    "zero_gradient": (
        "the gradient is zero everywhere: for this picture the score does not depend on the "
        "layer; try an earlier layer or another class"
    ),
    "saturated": (
        "the probability is so close to 0 or 1 that its gradient is zero; export with score='logit'"
    ),
    "all_zero": (
        "the map is zero everywhere although the gradient is not: activation and gradient "
        "cancel or never meet; try another layer or method"
    ),
    "nothing_positive": (
        "the file's finished map is zero everywhere: nothing at this layer speaks for the class, "
        "or the gradient is zero; a file exported with emit='gradient' tells which"
    ),
    "non_finite": (
        "the activation or the gradient holds NaN or infinite values; check the input's "
        "preprocessing, and for a float16 model try float32"
    ),
}
_SATURATED = 1e-6  # p (1 - p), the factor between the gradients of probability and logit


@dataclass(frozen=True)
class Diagnosis:
    """What a raw map holds.

    `minimum` and `maximum` are of its finite values (NaN if it has none), `positive_share` is
    the share of values above zero, `reason` a key of :data:`REASONS` or None where the map is
    fine.
    """

    minimum: float
    maximum: float
    positive_share: float
    reason: str | None = None

    @property
    def sentence(self) -> str:
        """The reason for people; empty where the map is fine."""
        return REASONS[self.reason] if self.reason else ""


def diagnose(
    summary: NDArray[np.float64],
    size: int,
    gradient: NDArray[Any] | None,
    probability: float | None = None,
) -> Diagnosis:
    """Look at what a raw map holds.

    Args:
        summary: minimum, maximum, and how many values are positive and not finite, as the kernels
            of :mod:`onnxcam.methods` give them.
        size: how many values there are.
        gradient: what the map was made from (gradient or pooled weights); None if unknown: then the
            map is a finished one, which does not tell negative from zero.
        probability: the class's, where the probability was differentiated.
    """
    minimum, maximum, positives, non_finites = summary.tolist()
    reason = None
    if non_finites:
        reason = "non_finite"
    elif not positives:
        reason = _reason_of_silence(minimum, gradient, probability)
    if minimum > maximum:  # not one finite value
        minimum = maximum = float("nan")
    return Diagnosis(minimum, maximum, positives / size, reason)


def _reason_of_silence(
    minimum: float, gradient: NDArray[Any] | None, probability: float | None
) -> str:
    if minimum < 0:
        return "all_negative"
    if gradient is None:
        return "nothing_positive"
    if gradient.any():
        return "all_zero"
    if probability is not None and probability * (1 - probability) < _SATURATED:
        return "saturated"
    return "zero_gradient"
