"""From what an explaining model puts out to signed maps and finished ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.contract import ACTIVATION, GRADIENT, HEATMAP, WEIGHTS, output_name
from onnxcam.errors import MethodError, ModelError
from onnxcam.methods import DEFAULT_METHOD, find_method

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Attribution:
    """The maps of a batch.

    `raw` is float32 [N, K, *spatial], signed (K = 1 where the model takes one target an image);
    `slopes` is what the maps were made from, gradient or weights, [N, K, C, ...], or None.
    """

    raw: Map
    slopes: NDArray[Any] | None


def check_method(name: str, emit: str) -> str:
    """`name`, if a file that emits `emit` can be explained with it.

    Raises:
        MethodError: an unknown method, or one that needs more than the file puts out.
    """
    find_method(name)
    if emit != "gradient" and name != DEFAULT_METHOD:
        raise MethodError(
            f"method '{name}' needs the gradient, the file emits '{emit}'; "
            "export it with emit='gradient'"
        )
    return name


def attribute(
    outputs: Mapping[str, NDArray[Any]], emit: str, method: str, layer: int = 0
) -> Attribution:
    """Compute the signed maps of a batch from the `cam_` outputs of the layer of that number.

    Raises:
        ModelError: the outputs' shapes do not fit together.
    """
    if emit == "heatmap":
        heatmap = _float32(outputs[output_name(HEATMAP, layer)])
        if heatmap.ndim < 2:
            raise ModelError(f"{HEATMAP}: expected [N, h, w], got {list(heatmap.shape)}")
        return Attribution(heatmap, None)
    activation = _float32(outputs[output_name(ACTIVATION, layer)])
    if activation.ndim < 3:
        raise ModelError(
            f"{ACTIVATION}: expected [N, C, spatial axes], got {list(activation.shape)}"
        )
    if emit == "weights":
        return _weighted(activation, _float32(outputs[output_name(WEIGHTS, layer)]))
    return _from_gradient(activation, _float32(outputs[output_name(GRADIENT, layer)]), method)


def _from_gradient(activation: Map, gradient: Map, method: str) -> Attribution:
    n, c, *spatial = activation.shape
    slopes = _with_targets(gradient, activation.ndim, GRADIENT)
    if slopes.shape != (n, slopes.shape[1], c, *spatial):
        raise _mismatch(GRADIENT, gradient, activation)
    kernel = find_method(method).load()
    k = slopes.shape[1]
    raw = np.empty((n, k, *spatial), np.float32)
    for i in range(n):
        for j in range(k):
            kernel(activation[i].reshape(c, -1), slopes[i, j].reshape(c, -1), raw[i, j].reshape(-1))
    return Attribution(raw, slopes)


def _weighted(activation: Map, weights: Map) -> Attribution:
    from onnxcam import kernels

    n, c, *spatial = activation.shape
    slopes = _with_targets(weights, 2, WEIGHTS)
    if slopes.shape != (n, slopes.shape[1], c):
        raise _mismatch(WEIGHTS, weights, activation)
    raw = np.empty((n, slopes.shape[1], *spatial), np.float32)
    for i in range(n):
        for j in range(slopes.shape[1]):
            out = raw[i, j].reshape(-1)
            kernels.weighted_sum(activation[i].reshape(c, -1), slopes[i, j], out)
    return Attribution(raw, slopes)


def normalise(raw: Map, out: Map) -> None:
    """ReLU, divided by the maximum; every map [*spatial] of [N, ..., *spatial] by itself.

    A map with NaN or infinite values becomes zero.
    """
    from onnxcam import kernels

    if not np.isfinite(raw).all():
        out[...] = 0
        return
    kernels.relu_normalise(raw.reshape(-1), out.reshape(-1))


def _with_targets(values: Map, rank_of_one: int, name: str) -> Map:
    """Add the axis of targets, [N, K, ...], where the model takes one target an image."""
    if values.ndim == rank_of_one:
        return values[:, None]
    if values.ndim == rank_of_one + 1:
        return values
    raise ModelError(
        f"{name}: expected {rank_of_one} or {rank_of_one + 1} axes, got {list(values.shape)}"
    )


def _float32(values: NDArray[Any]) -> Map:
    return np.ascontiguousarray(values, np.float32)


def _mismatch(name: str, found: Map, activation: Map) -> ModelError:
    return ModelError(
        f"{name}: {list(found.shape)} does not fit {ACTIVATION} {list(activation.shape)}"
    )
