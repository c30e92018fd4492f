"""Where models come from: each module turns one kind of source into a :class:`Source`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx

from onnxcam.errors import LayerError

# (input batch as the model takes it, class index per image, "logit" or "probability")
# -> (activation, gradient), float32, both in the layer's own layout.
GradientOracle = Callable[
    [npt.NDArray[np.float32], npt.NDArray[np.int64], str],
    tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
]

LayerLike = str | Sequence[str] | None


@dataclass(frozen=True)
class Captured:
    """A layer whose activation the framework itself put out.

    Attributes:
        asked: the name that it was asked for by, as `last_conv`.
        name: the framework's own, full name (`layer4.1.conv2`, `vgg16/block5_conv3`).
        tensor: the graph output that holds the activation.
        channels_last: whether that is [N, *spatial, C].
        oracle: computes activation and gradient with the framework's own autograd (used by
            verification only), or None where it cannot.
    """

    asked: str
    name: str
    tensor: str
    channels_last: bool
    oracle: GradientOracle | None = None


@dataclass(frozen=True)
class Source:
    """A plain model as ONNX, and what its framework knew about the layers.

    Attributes:
        model: the plain model, and behind its own outputs one for each captured layer.
        captured: the layers that were asked for by their framework's names, in that order; the
            others are to be found in the graph (by tensor or node name, or by default).
        producer: what made the model, for the contract, as `{"torch": "2.13.0"}`.
        picture_layout: layout of the picture input, `NCHW` or `NHWC`; None when unknown.
    """

    model: onnx.ModelProto
    captured: tuple[Captured, ...] = ()
    producer: Mapping[str, str] = field(default_factory=dict)
    picture_layout: str | None = None


def layer_names(layer: LayerLike) -> list[str]:
    """The names in what was asked for; none for None.

    Raises:
        LayerError: an empty list, one with something else than names in it, or a name twice.
    """
    if layer is None:
        return []
    names = [layer] if isinstance(layer, str) else list(layer)
    if not names:
        raise LayerError("layer: expected a name, or several; got an empty list")
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise LayerError(f"layer: expected names, got {name!r} among them")
        if name in names[:index]:
            raise LayerError(f"layer '{name}' is asked for twice; name every layer once")
    return names


def refuse_twins(layers: Mapping[str, object]) -> None:
    """Raise LayerError when two names, the keys, turn out to be one layer of the framework."""
    names = list(layers)
    for index, name in enumerate(names):
        for other in names[:index]:
            if layers[name] is layers[other]:
                raise LayerError(
                    f"layer '{name}' is asked for twice: it is layer '{other}'; "
                    "name every layer once"
                )
