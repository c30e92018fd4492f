"""What the zoo says about one model."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from onnxcam.contract import Preprocessing
from onnxcam.errors import MissingExtraError
from onnxcam_models import imagenet_labels

IMAGENET_CLASSES = 1000
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ZooEntry:
    """What is known about a model; None where nothing is known for certain.

    Attributes:
        preprocess: from a picture to the input tensor.
        labels: the 1000 ImageNet classes, where the model has them.
        layer: the framework's name of the layer to explain; None where the last spatial
            activation of the graph is right.
        source: where this comes from, for people.
    """

    preprocess: Preprocessing | None
    labels: tuple[str, ...] | None
    layer: str | None
    source: str


def labels_of(classes: int) -> tuple[str, ...] | None:
    """ImageNet's labels for a model with 1000 classes, else None."""
    return imagenet_labels() if classes == IMAGENET_CLASSES else None


def require(module: str, package: str, extra: str) -> ModuleType:
    """Import a framework, or say what to install."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{package} is not installed (no module {error.name!r}); "
            f"pip install 'onnxcam[{extra}]' {package}"
        ) from error
    except Exception as error:  # installed, but broken: torchvision beside another torch, say
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MissingExtraError(
            f"{package} is installed but cannot be imported: {reason}"
        ) from error
