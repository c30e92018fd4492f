"""torchvision.models: every weights entry carries its own evaluation transform."""

from __future__ import annotations

from typing import Any

from onnxcam.contract import Preprocessing, Resize
from onnxcam_models.zoo.entry import IMAGENET_CLASSES, ZooEntry, labels_of, require

# Where the graph's last spatial activation is not what people explain: networks that end in a
# pooling (explain the ReLU before it) and SqueezeNet, whose last one is the class map itself.
LAYERS = {
    "alexnet": "features.11",
    "vgg11": "features.19",
    "vgg13": "features.23",
    "vgg16": "features.29",
    "vgg19": "features.35",
    "vgg11_bn": "features.27",
    "vgg13_bn": "features.33",
    "vgg16_bn": "features.42",
    "vgg19_bn": "features.51",
    "squeezenet1_0": "features.12",
    "squeezenet1_1": "features.12",
}


def lookup(function: str, kwargs: dict[str, Any]) -> ZooEntry | None:
    """See :func:`onnxcam_models.zoo.lookup`."""
    models = require("torchvision.models", "torchvision", "torch")
    if function == "get_model":
        function = str(kwargs.get("name", ""))
    try:
        choices = models.get_model_weights(function)
    except ValueError:  # not a model's name
        return None
    weights = _chosen(choices, kwargs.get("weights"))
    transform = weights.transforms()
    if type(transform).__name__ != "ImageClassification":  # detection, segmentation, video
        return None
    return ZooEntry(
        preprocess=preprocessing(transform),
        labels=labels_of(int(kwargs.get("num_classes", IMAGENET_CLASSES))),
        layer=LAYERS.get(function),
        source=f"torchvision {weights}",
    )


def _chosen(choices: Any, weights: Any) -> Any:
    """The weights entry that was asked for; without weights, the architecture's first.

    Without weights somebody will load their own, trained by the architecture's original recipe
    more likely than by a later one; the first entry is the original.
    """
    if isinstance(weights, str):
        name = weights.rpartition(".")[2]
        return choices[name] if name in choices.__members__ else next(iter(choices))
    return weights if isinstance(weights, choices) else next(iter(choices))


def preprocessing(transform: Any) -> Preprocessing:
    """A torchvision `ImageClassification` preset as a contract's preprocessing."""
    (shorter_side,) = transform.resize_size
    (size,) = transform.crop_size
    return Preprocessing(
        size=(size, size),
        scale=1 / 255,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        resize=Resize(
            mode="crop",
            shorter_side=shorter_side,
            filter=transform.interpolation.value,
            antialias=bool(transform.antialias),
        ),
    )
