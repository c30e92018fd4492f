"""The arithmetic, one idea a file, as plain loops compiled by Numba.

A kernel takes contiguous arrays of a fixed dtype and an `out`; it allocates and validates
nothing: its callers do. Importing this package imports numba, so import it where it is used.
"""

from onnxcam.kernels.blend import blend
from onnxcam.kernels.colorize import colorize
from onnxcam.kernels.elementwise import gradcam_elementwise, hirescam, layercam
from onnxcam.kernels.gradcam import gradcam
from onnxcam.kernels.gradcam_plusplus import gradcam_plusplus
from onnxcam.kernels.overlay_colors import overlay_colors
from onnxcam.kernels.overlay_contours import overlay_contours
from onnxcam.kernels.overlay_jet import overlay_jet
from onnxcam.kernels.picture import gray_of, picture_to_float32, picture_to_uint8
from onnxcam.kernels.pooling import channel_means
from onnxcam.kernels.resampling import resampling_taps, resampling_width
from onnxcam.kernels.resize_bicubic import resize_map_bicubic, resize_picture_bicubic
from onnxcam.kernels.resize_bilinear import resize_map_bilinear, resize_picture_bilinear
from onnxcam.kernels.summary import summarise
from onnxcam.kernels.weighted_sum import weighted_sum
from onnxcam.kernels.xgradcam import xgradcam

__all__ = [
    "blend",
    "channel_means",
    "colorize",
    "gradcam",
    "gradcam_elementwise",
    "gradcam_plusplus",
    "gray_of",
    "hirescam",
    "layercam",
    "overlay_colors",
    "overlay_contours",
    "overlay_jet",
    "picture_to_float32",
    "picture_to_uint8",
    "resampling_taps",
    "resampling_width",
    "resize_map_bicubic",
    "resize_map_bilinear",
    "resize_picture_bicubic",
    "resize_picture_bilinear",
    "summarise",
    "weighted_sum",
    "xgradcam",
]
