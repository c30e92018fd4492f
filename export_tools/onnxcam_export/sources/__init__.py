"""Where models come from: each module turns one kind of source into a :class:`Source`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx

# (input batch as the model takes it, class index per image, "logit" or "probability")
# -> (activation, gradient), float32, both channels-first [N, C, *spatial].
GradientOracle = Callable[
    [npt.NDArray[np.float32], npt.NDArray[np.int64], str],
    tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
]


@dataclass(frozen=True)
class Source:
    """A plain model as ONNX, and what its framework knew about the layer.

    Attributes:
        model: the plain model. When a layer was asked for by its framework's name, the last
            graph output is its activation.
        activation: the name of that extra output, or None when the layer is to be found in
            the graph (by tensor or node name, or by default).
        layer_name: the framework's name of the layer (`layer4.1.conv2`, `block5_conv3`), or None.
        channels_last: whether `activation` is [N, *spatial, C]; None when unknown.
        producer: what made the model, for the contract, as `{"torch": "2.13.0"}`.
        oracle: computes activation and gradient with the framework's own autograd (used by
            verification only), or None for a plain ONNX file.
        picture_layout: layout of the picture input, `NCHW` or `NHWC`; None when unknown.
    """

    model: onnx.ModelProto
    activation: str | None = None
    layer_name: str | None = None
    channels_last: bool | None = None
    producer: Mapping[str, str] = field(default_factory=dict)
    oracle: GradientOracle | None = None
    picture_layout: str | None = None
