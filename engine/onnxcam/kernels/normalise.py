"""From a signed map to [0, 1], and what the signed map holds."""

from __future__ import annotations

from typing import Any

from onnxcam.kernels._inline import part
from onnxcam.kernels.summary import summary_of


@part
def relu_normalise(raw: Any, out: Any) -> None:
    """ReLU, then divided by the maximum, without epsilon; float32 [P] -> [P], finite values.

    A map without positive values becomes zero everywhere.
    """
    highest = raw[0]
    for p in range(raw.shape[0]):
        if raw[p] > highest:
            highest = raw[p]
    for p in range(raw.shape[0]):
        out[p] = raw[p] / highest if raw[p] > 0.0 else 0.0


@part
def finish(raw: Any, finished: Any, summary: Any) -> None:
    """The summary (see `summarise`) and the finished map: float32 [P] -> float64 [4], float32 [P].

    A map with NaN or infinite values becomes zero everywhere; the summary counts them.
    """
    summary_of(raw, summary)
    if summary[3] == 0.0:
        relu_normalise(raw, finished)
    else:
        for p in range(finished.shape[0]):
            finished[p] = 0.0
