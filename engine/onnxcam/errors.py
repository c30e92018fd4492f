"""Every error that onnxcam raises on purpose.

All of them derive from :class:`OnnxcamError`; the command line turns that one class into a
single line on stderr and exit code 2. A message says what was expected, what was found and
what to do.
"""

from __future__ import annotations


class OnnxcamError(Exception):
    """Base class of every error raised on purpose by onnxcam."""


class ModelError(OnnxcamError):
    """The model file is missing, truncated, empty, not ONNX, or cannot be run."""


class ContractError(OnnxcamError):
    """The model's `onnxcam` metadata is missing, malformed or of an unknown version."""


class ExportError(OnnxcamError):
    """The model cannot be turned into an explaining one."""


class LayerError(ExportError):
    """The layer is unknown, comes after the score, or has no spatial axes."""


class UnsupportedOpError(ExportError):
    """An operator without a derivative lies between the layer and the score."""


class MissingExtraError(OnnxcamError):
    """An optional dependency is not installed; the message names the extra."""


class TargetError(OnnxcamError):
    """The class name is unknown, or the class index is out of range."""


class PreprocessError(OnnxcamError):
    """The preprocessing is missing, unknown or contradicts the model."""


class InputError(OnnxcamError):
    """A tensor or an array has the wrong shape or dtype, or holds non-finite values."""


class PictureError(OnnxcamError):
    """A picture cannot be read: truncated, zero-sized, of an unknown format, or too large."""


class MethodError(OnnxcamError):
    """The CAM method, colormap or option is unknown."""
