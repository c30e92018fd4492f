"""keras.applications: the documentation of each model says it in words, so here is a table.

Pictures are stretched to the input size with nearest neighbours, as `keras.utils.load_img` does.
"""

from __future__ import annotations

from typing import Any

from onnxcam.contract import Preprocessing, Resize
from onnxcam_models.zoo.entry import (
    IMAGENET_CLASSES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    ZooEntry,
    labels_of,
)

# How a uint8 picture becomes the input, by the names of keras.applications.imagenet_utils;
# `built-in` models take 0..255 and do the rest themselves.
MODES: dict[str, dict[str, Any]] = {
    "caffe": {"color": "BGR", "mean": (103.939, 116.779, 123.68)},
    "tf": {"scale": 1 / 127.5, "mean": (1.0,)},
    "torch": {"scale": 1 / 255, "mean": IMAGENET_MEAN, "std": IMAGENET_STD},
    "built-in": {},
}

# model -> (mode, input size)
MODELS: dict[str, tuple[str, int]] = {
    **dict.fromkeys(("VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet152"), ("caffe", 224)),
    **dict.fromkeys(("ResNet50V2", "ResNet101V2", "ResNet152V2"), ("tf", 224)),
    **dict.fromkeys(("MobileNet", "MobileNetV2", "NASNetMobile"), ("tf", 224)),
    **dict.fromkeys(("Xception", "InceptionV3", "InceptionResNetV2"), ("tf", 299)),
    "NASNetLarge": ("tf", 331),
    **dict.fromkeys(("DenseNet121", "DenseNet169", "DenseNet201"), ("torch", 224)),
    **dict.fromkeys(("MobileNetV3Small", "MobileNetV3Large"), ("built-in", 224)),
    **{
        f"ConvNeXt{size}": ("built-in", 224)
        for size in ("Tiny", "Small", "Base", "Large", "XLarge")
    },
    **{
        f"EfficientNetB{i}": ("built-in", size)
        for i, size in enumerate((224, 240, 260, 300, 380, 456, 528, 600))
    },
    **{
        f"EfficientNetV2{name}": ("built-in", size)
        for name, size in zip(
            ("B0", "B1", "B2", "B3", "S", "M", "L"),
            (224, 240, 260, 300, 384, 480, 480),
            strict=True,
        )
    },
}

# VGG ends in a pooling; what is explained is the last convolution, before it.
LAYERS = {"VGG16": "block5_conv3", "VGG19": "block5_conv4"}


def lookup(function: str, kwargs: dict[str, Any]) -> ZooEntry | None:
    """See :func:`onnxcam_models.zoo.lookup`."""
    if function not in MODELS:
        return None
    mode, size = MODELS[function]
    classes = int(kwargs.get("classes", IMAGENET_CLASSES)) if kwargs.get("include_top", True) else 0
    return ZooEntry(
        preprocess=_preprocessing(mode, size, kwargs),
        labels=labels_of(classes),
        layer=LAYERS.get(function),
        source=f"keras.applications.{function}, mode {mode}",
    )


def _preprocessing(mode: str, size: int, kwargs: dict[str, Any]) -> Preprocessing | None:
    """None where the model was told to leave its own preprocessing out, or for odd inputs."""
    height, width, channels = kwargs.get("input_shape") or (size, size, 3)
    if not kwargs.get("include_preprocessing", True) or None in (height, width) or channels != 3:
        return None
    return Preprocessing(
        size=(int(height), int(width)),
        resize=Resize(filter="nearest", antialias=False),
        **MODES[mode],
    )
