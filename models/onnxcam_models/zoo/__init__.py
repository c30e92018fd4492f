"""What torchvision, timm and keras.applications know about their models.

:func:`lookup` answers for a factory as the command line names it, so that
`onnxcam export torch torchvision.models:resnet18` needs neither `--preprocess` nor `--labels`:

    factory                                     kwargs
    torchvision.models:resnet18                 {"weights": "DEFAULT"}
    timm:create_model                           {"model_name": "resnet50.a1_in1k"}
    keras.applications:VGG16                    {"weights": null}

The answers come from the library itself where it can say (torchvision's weights, timm's
configuration), and from a table where it can't (keras.applications). A framework is imported
only when one of its own models is asked for.

:func:`torchvision_model`, :func:`timm_model` and :func:`keras_model` load a model with or
without its pretrained weights, which the library downloads on first use.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from onnxcam_models.zoo.entry import ZooEntry
from onnxcam_models.zoo.loading import keras_model, timm_model, torchvision_model

__all__ = ["ZooEntry", "keras_model", "lookup", "timm_model", "torchvision_model"]

# start of a factory's module -> the module here that knows about it
_LIBRARIES = {
    "torchvision.models": "from_torchvision",
    "timm": "from_timm",
    "keras.applications": "from_keras",
    "keras.src.applications": "from_keras",
    "tensorflow.keras.applications": "from_keras",
    "tf_keras.applications": "from_keras",
}


def lookup(factory: str, kwargs: Mapping[str, Any] | None = None) -> ZooEntry | None:
    """What is known about the model that ``factory(**kwargs)`` makes.

    Args:
        factory: `MODULE:FUNCTION`, as `onnxcam export torch` and `export keras` take it.
        kwargs: the arguments that it is called with.

    Returns:
        None when the factory belongs to none of the three libraries or is none of their image
        classifiers. An entry's fields are None where nothing is known for certain.

    Raises:
        MissingExtraError: the factory's library is not installed.

    Examples:
        >>> lookup("keras.applications:Xception").preprocess.size
        (299, 299)
        >>> lookup("my_package:my_model") is None
        True
    """
    module, _, function = factory.partition(":")
    for start, name in _LIBRARIES.items():
        if module == start or module.startswith(start + "."):
            known: ZooEntry | None = import_module(f"{__name__}.{name}").lookup(
                function, dict(kwargs or {})
            )
            return known
    return None
