"""Grad-CAM++: only positive gradients count, and those of small objects count for more."""

from __future__ import annotations

from typing import Any

from onnxcam.kernels._jit import kernel
from onnxcam.kernels.weighted_sum import add_scaled


@kernel
def gradcam_plusplus(activation: Any, gradient: Any, out: Any) -> None:
    """Equations 5 and 19 of arXiv 1710.11063; float32 [C, P] twice -> [P].

    With S the sum of the channel's activation, equation 19 is ``alpha = g^2 / (2 g^2 + S g^3)``.
    Divided by g^2 that is ``1 / (2 + S g)``, which needs no epsilon and does not underflow for
    small gradients. Gradients that are not positive have weight zero (the ReLU of equation 5).
    The paper assumes S >= 0 (activations after a ReLU); otherwise ``2 + S g`` may vanish, and
    such a position, where alpha is undefined, is left out.
    """
    out[:] = 0.0
    for c in range(activation.shape[0]):
        total = 0.0
        for p in range(activation.shape[1]):
            total += float(activation[c, p])
        weight = 0.0
        for p in range(activation.shape[1]):
            g = float(gradient[c, p])
            # A NaN must reach the map, where it is reported: so "not <=" and not ">".
            if not g <= 0.0 and 2.0 + total * g != 0.0:
                weight += g / (2.0 + total * g)
        add_scaled(weight, activation[c], out)
