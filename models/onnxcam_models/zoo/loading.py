"""Load a model from one of the three libraries, with or without its pretrained weights."""

from __future__ import annotations

from typing import Any

from onnxcam_models.zoo.entry import require


def torchvision_model(name: str, pretrained: bool = True, **kwargs: Any) -> Any:
    """`torchvision.models.get_model` with the library's best weights, in eval mode.

    Raises:
        MissingExtraError: torchvision is not installed.
    """
    models = require("torchvision.models", "torchvision", "torch")
    kwargs.setdefault("weights", "DEFAULT" if pretrained else None)
    return models.get_model(name, **kwargs).eval()


def timm_model(name: str, pretrained: bool = True, **kwargs: Any) -> Any:
    """`timm.create_model` in eval mode.

    Raises:
        MissingExtraError: timm is not installed.
    """
    return require("timm", "timm", "torch").create_model(name, pretrained, **kwargs).eval()


def keras_model(name: str, pretrained: bool = True, **kwargs: Any) -> Any:
    """A model of `keras.applications` by its name, `keras_model("VGG16")`.

    Raises:
        MissingExtraError: Keras is not installed.
    """
    applications = require("keras.applications", "keras", "keras")
    kwargs.setdefault("weights", "imagenet" if pretrained else None)
    return getattr(applications, name)(**kwargs)
