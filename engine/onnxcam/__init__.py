"""Run explaining ONNX files: predictions and Grad-CAM heatmaps, with no training framework.

```python
from onnxcam import Engine

engine = Engine("resnet50.cam.onnx")
result = engine.explain("dog.jpg")
result.label, result.probability
result.save("dog.cam.png")
```

The names below are loaded on first use, so that `import onnxcam` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from onnxcam._version import __version__

if TYPE_CHECKING:
    from onnxcam.contract import Contract, Preprocessing
    from onnxcam.engine import Engine
    from onnxcam.errors import (
        ContractError,
        ExportError,
        InputError,
        LayerError,
        MethodError,
        MissingExtraError,
        ModelError,
        OnnxcamError,
        PictureError,
        PreprocessError,
        TargetError,
        UnsupportedOpError,
    )
    from onnxcam.painting import overlay
    from onnxcam.result import Diagnosis, Prediction, Result
    from onnxcam.stream import Stream

# public name -> the module it lives in
_HOME = {
    "Contract": "onnxcam.contract",
    "ContractError": "onnxcam.errors",
    "Diagnosis": "onnxcam.result",
    "Engine": "onnxcam.engine",
    "ExportError": "onnxcam.errors",
    "InputError": "onnxcam.errors",
    "LayerError": "onnxcam.errors",
    "MethodError": "onnxcam.errors",
    "MissingExtraError": "onnxcam.errors",
    "ModelError": "onnxcam.errors",
    "OnnxcamError": "onnxcam.errors",
    "PictureError": "onnxcam.errors",
    "Prediction": "onnxcam.result",
    "PreprocessError": "onnxcam.errors",
    "Preprocessing": "onnxcam.contract",
    "Result": "onnxcam.result",
    "Stream": "onnxcam.stream",
    "TargetError": "onnxcam.errors",
    "UnsupportedOpError": "onnxcam.errors",
    "overlay": "onnxcam.painting",
}

__all__ = [
    "Contract",
    "ContractError",
    "Diagnosis",
    "Engine",
    "ExportError",
    "InputError",
    "LayerError",
    "MethodError",
    "MissingExtraError",
    "ModelError",
    "OnnxcamError",
    "PictureError",
    "Prediction",
    "PreprocessError",
    "Preprocessing",
    "Result",
    "Stream",
    "TargetError",
    "UnsupportedOpError",
    "__version__",
    "overlay",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'onnxcam' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
