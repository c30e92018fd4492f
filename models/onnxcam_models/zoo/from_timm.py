"""timm: every model has a pretrained configuration, readable without building the model."""

from __future__ import annotations

import math
from typing import Any

from onnxcam.contract import FILTERS, Preprocessing, Resize
from onnxcam_models.zoo.entry import ZooEntry, labels_of, require
from onnxcam_models.zoo.from_torchvision import LAYERS as TORCHVISION_LAYERS

# timm's VGG has torchvision's `features`.
LAYERS = {name: layer for name, layer in TORCHVISION_LAYERS.items() if name.startswith("vgg")}


def lookup(function: str, kwargs: dict[str, Any]) -> ZooEntry | None:
    """See :func:`onnxcam_models.zoo.lookup`. `function` is `create_model`, or a model's own."""
    timm = require("timm", "timm", "torch")
    name = str(kwargs.get("model_name", "")) if function == "create_model" else function
    name = name.removeprefix("timm/")
    if not timm.is_model(name):
        return None
    configuration = timm.get_pretrained_cfg(name)
    if configuration is None:
        return None
    classes = kwargs.get("num_classes")
    architecture, _, tag = name.partition(".")
    colour = kwargs.get("in_chans") in (None, 3)
    return ZooEntry(
        preprocess=preprocessing(_data_config(configuration, kwargs)) if colour else None,
        labels=labels_of(configuration.num_classes if classes is None else int(classes)),
        layer=LAYERS.get(architecture),
        source=f"timm {architecture}.{tag or configuration.tag}",
    )


def _data_config(configuration: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """timm's own resolution of input size, mean, std, crop and interpolation."""
    data = require("timm.data", "timm", "torch")
    size = kwargs.get("img_size")
    arguments = {
        "img_size": size if isinstance(size, int) else None,
        "input_size": (3, *size) if isinstance(size, (list, tuple)) else None,
    }
    resolved: dict[str, Any] = data.resolve_data_config(
        arguments, pretrained_cfg=configuration.to_dict()
    )
    return resolved


def preprocessing(data: dict[str, Any]) -> Preprocessing | None:
    """A timm data configuration as a contract's preprocessing.

    None where the contract has no word for it: padding to a border, a crop out of a picture
    that was stretched first, a crop that is not square.
    """
    _, height, width = data["input_size"]
    mode, part = data.get("crop_mode", "center"), data["crop_pct"]
    if data["interpolation"] not in FILTERS:
        return None
    if mode == "squash" and part == 1:
        resize = Resize(filter=data["interpolation"])
    elif mode == "center" and height == width and part <= 1:
        resize = Resize("crop", math.floor(height / part), data["interpolation"])
    else:
        return None
    return Preprocessing(
        size=(height, width),
        scale=1 / 255,
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        resize=resize,
    )
