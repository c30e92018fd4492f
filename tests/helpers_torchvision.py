"""`from helpers_torchvision import torchvision`: torchvision beside a CPU-only torch.

torchvision registers shape functions for two operators that only its compiled library defines;
where that library does not load, importing it fails unless the operators exist by name.
"""

from __future__ import annotations

import torch

# Kept alive for as long as the process runs: the definitions vanish with it.
_LIBRARY = None
try:
    import torchvision
except RuntimeError:
    _LIBRARY = torch.library.Library("torchvision", "DEF")
    _LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

__all__ = ["torchvision"]
