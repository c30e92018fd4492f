"""From what an explaining model puts out to signed maps and finished ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxcam.buffers import Place, new_array
from onnxcam.contract import ACTIVATION, GRADIENT, HEATMAP, WEIGHTS, Contract, output_name
from onnxcam.errors import MethodError, ModelError
from onnxcam.methods import DEFAULT_METHOD, find_method
from onnxcam.painting import check_out

Map: TypeAlias = NDArray[np.float32]


class Reduction(NamedTuple):
    """A kernel's name, and its arguments by name."""

    kernel: str
    arrays: dict[str, NDArray[Any]]

    @property
    def sources(self) -> tuple[str, str]:
        """The arrays that the maps are made from."""
        return "activation", "weights" if "weights" in self.arrays else "gradient"


class Attribution(NamedTuple):
    """The maps of a batch; K = 1 where the model takes one target an image.

    `raw` is float32 [N, K, *spatial], signed; `finished` the same through ReLU and divided by its
    maximum, zero where that says nothing. `summary` is float64 [N, K, 4]: minimum and maximum of
    the finite values of `raw`, and how many are positive and not finite. `slopes` is what the maps
    were made from, gradient or weights, [N, K, C, ...], or None. `reduction` is how they were made,
    None where they came as they are.
    """

    raw: Map
    finished: Map
    summary: NDArray[np.float64]
    slopes: NDArray[Any] | None
    reduction: Reduction | None = None


def check_method(name: str | None, contract: Contract) -> str | None:
    """The method that a file is explained with: the one of that name, or the file's own.

    Without a name, Grad-CAM; of a file that emits the finished heatmap its method, or None where
    it does not say which.

    Raises:
        MethodError: an unknown method, one that needs more than the file puts out, or another one
            than the finished heatmap's.
    """
    if name is not None:
        find_method(name)
    if contract.emit == "heatmap":
        if name not in (None, contract.method or DEFAULT_METHOD):
            of = f" of '{contract.method}'" if contract.method else ""
            raise MethodError(
                f"method '{name}': the file emits the finished heatmap{of}; export it with "
                f"method='{name}', or with emit='gradient' for a choice of methods"
            )
        return contract.method
    if contract.emit == "weights" and name not in (None, DEFAULT_METHOD):
        raise MethodError(
            f"method '{name}' needs the gradient, the file emits '{contract.emit}'; "
            "export it with emit='gradient'"
        )
    return name or DEFAULT_METHOD


def attribute(
    outputs: Mapping[str, NDArray[Any]],
    emit: str,
    method: str | None,
    layer: int = 0,
    *,
    several: bool = True,
    place: Place = new_array,
) -> Attribution:
    """Compute the maps of a batch from the `cam_` outputs of the layer of that number.

    Args:
        outputs: arrays by name.
        emit: what the file puts out, a key of :data:`onnxcam.contract.OUTPUTS_OF_EMIT`.
        method: a key of :data:`onnxcam.methods.METHODS`; of no account for a finished heatmap.
        layer: the layer's number.
        several: whether a finished heatmap has the axis of targets.
        place: gives the arrays "raw", "finished" (float32) and "summary" (float64) of a shape,
            contiguous; they are overwritten.

    Raises:
        ModelError: the outputs' shapes do not fit together.
    """
    if emit == "heatmap":
        return _finished(_float32(outputs[output_name(HEATMAP, layer)]), several, place)
    activation = _float32(outputs[output_name(ACTIVATION, layer)])
    if activation.ndim < 3:
        raise ModelError(
            f"{ACTIVATION}: expected [N, C, spatial axes], got {list(activation.shape)}"
        )

    n, c, *spatial = activation.shape
    if emit == "weights":
        slopes = _with_targets(_float32(outputs[output_name(WEIGHTS, layer)]), 2, WEIGHTS)
        fits, kernel = (n, slopes.shape[1], c), "weighted_sum"
    else:
        gradient = _float32(outputs[output_name(GRADIENT, layer)])
        slopes = _with_targets(gradient, activation.ndim, GRADIENT)
        kernel = find_method(method or DEFAULT_METHOD).kernel
        fits = (n, slopes.shape[1], c, *spatial)
    if slopes.shape != fits:
        name = WEIGHTS if emit == "weights" else GRADIENT
        raise ModelError(
            f"{name}: {list(slopes.shape)} does not fit {ACTIVATION} {list(activation.shape)}"
        )
    k = slopes.shape[1]
    raw = place("raw", (n, k, *spatial), np.float32)
    finished = place("finished", (n, k, *spatial), np.float32)
    summary = place("summary", (n, k, 4), np.float64)
    arrays = {
        "activation": activation.reshape(n, c, -1),
        "raw": raw.reshape(n, k, -1),
        "finished": finished.reshape(n, k, -1),
        "summary": summary,
    }
    if emit == "weights":
        arrays["weights"] = slopes
    else:
        arrays["gradient"] = slopes.reshape(n, k, c, -1)

    from onnxcam import compiled

    getattr(compiled, kernel)(**arrays)
    return Attribution(raw, finished, summary, slopes, Reduction(kernel, arrays))


def _finished(heatmap: Map, several: bool, place: Place) -> Attribution:
    """Of a file that emits the finished map; one with NaN or infinite values becomes zero."""
    if heatmap.ndim < (3 if several else 2):
        raise ModelError(f"{HEATMAP}: expected [N, h, w], got {list(heatmap.shape)}")

    from onnxcam import compiled

    values = heatmap if several else heatmap[:, None]
    n, k = values.shape[:2]
    raw = place("raw", values.shape, np.float32)
    raw[...] = values
    summary = place("summary", (n, k, 4), np.float64)
    compiled.summarise(raw.reshape(n * k, -1), summary.reshape(n * k, 4))
    finished = place("finished", raw.shape, np.float32)
    finished[...] = raw
    finished[summary[..., 3] > 0] = 0
    return Attribution(raw, finished, summary, None)


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


class Maps:
    """Where :meth:`onnxcam.Engine.maps` wants the maps.

    Args:
        several: whether the result has the axis of targets.
        out: the caller's array, checked once the shape is known; None for a new one.
    """

    def __init__(self, several: bool, out: Map | None) -> None:
        self._several = several
        self._out = out
        self.array: Map

    def place(self, name: str, shape: tuple[int, ...], dtype: Any) -> Map:
        """The result's array, in the shape that has the axis of targets.

        Raises:
            InputError: a wrong `out`.
        """
        wanted = shape if self._several else (shape[0], *shape[2:])
        if self._out is None:
            self.array = np.empty(wanted, np.float32)
        else:
            check_out(self._out, wanted, np.float32)
            self.array = self._out
        return self.array.reshape(shape)
