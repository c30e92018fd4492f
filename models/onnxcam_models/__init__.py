"""Models that come with onnxcam, and what is known about other people's.

- two small trained networks as plain ONNX files: :func:`names`, :func:`path`, :func:`network`;
- :mod:`onnxcam_models.scenes`: pictures whose answer is known, to score heatmaps;
- :mod:`onnxcam_models.zoo`: preprocessing, labels and default layers for torchvision, timm and
  keras.applications;
- :func:`imagenet_labels`.

Importing this needs numpy only. MODELS.md tells how the networks were made.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from onnxcam.contract import Preprocessing
from onnxcam.errors import ModelError

_DATA = Path(__file__).parent / "data"
_DIGITS = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True)
class Network:
    """A shipped network: what an export of it has to be told.

    Attributes:
        name: as :func:`path` takes it.
        description: one line.
        preprocess: from a picture to the input tensor.
        labels: one name per class.
        activation: what makes probabilities of its output, None where it gives probabilities.
        layer: the layer to explain, a tensor of the file.
    """

    name: str
    description: str
    preprocess: Preprocessing
    labels: tuple[str, ...]
    activation: str | None
    layer: str

    @property
    def path(self) -> Path:
        """The plain ONNX file."""
        return _DATA / f"{self.name}.onnx"


_NETWORKS = {
    network.name: network
    for network in (
        Network(
            "digits-in-clutter",
            "which handwritten digits lie in a 96x96 scene full of clutter (ten yes or no)",
            Preprocessing(size=(96, 96), color="GRAY", scale=1 / 255),
            _DIGITS,
            activation="sigmoid",
            layer="relu_6",
        ),
        Network(
            "mnist-style",
            "the MNIST tutorials' network: which handwritten digit is this, 28x28",
            Preprocessing(size=(28, 28), color="GRAY", scale=1 / 255),
            _DIGITS,
            activation=None,
            layer="relu",  # the first convolution, as the tutorial has it
        ),
    )
}


def names() -> tuple[str, ...]:
    """Names of the shipped networks.

    Examples:
        >>> names()
        ('digits-in-clutter', 'mnist-style')
    """
    return tuple(_NETWORKS)


def network(name: str) -> Network:
    """A shipped network with all that is known about it.

    Raises:
        ModelError: no network of that name ships.
    """
    try:
        return _NETWORKS[name]
    except KeyError:
        near = difflib.get_close_matches(name, _NETWORKS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = ", ".join(_NETWORKS)
        raise ModelError(
            f"no shipped network is called {name!r}: there are {known}{hint}"
        ) from None


def path(name: str) -> Path:
    """Path of a shipped network's plain ONNX file.

    Raises:
        ModelError: no network of that name ships.
    """
    return network(name).path


@lru_cache(maxsize=1)
def imagenet_labels() -> tuple[str, ...]:
    """The 1000 classes of ImageNet-1k in their usual order, `synset name`.

    Examples:
        >>> imagenet_labels()[207]
        'n02099601 golden retriever'
    """
    return tuple((_DATA / "imagenet_labels.txt").read_text(encoding="utf-8").splitlines())
