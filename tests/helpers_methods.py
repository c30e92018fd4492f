"""The CAM methods' formulas in float64: activation [C, P] and gradient [C, P] to the map [P]."""

from __future__ import annotations

import numpy as np


def gradcam(a, g):
    return np.tensordot(g.mean(axis=1), a, 1)


def gradcam_plusplus(a, g):
    # equation 19 as it is printed, then equation 5
    alpha = np.divide(
        g**2,
        2 * g**2 + a.sum(axis=1, keepdims=True) * g**3,
        out=np.zeros_like(g),
        where=g != 0,
    )
    return np.tensordot((alpha * np.maximum(g, 0)).sum(axis=1), a, 1)


def xgradcam(a, g):
    total = a.sum(axis=1)
    weights = np.divide((g * a).sum(axis=1), total, out=np.zeros_like(total), where=total != 0)
    return np.tensordot(weights, a, 1)


ORACLES = {
    "gradcam": gradcam,
    "gradcam++": gradcam_plusplus,
    "xgradcam": xgradcam,
    "layercam": lambda a, g: (np.maximum(g, 0) * a).sum(axis=0),
    "hirescam": lambda a, g: (g * a).sum(axis=0),
    "gradcam-elementwise": lambda a, g: np.maximum(g * a, 0).sum(axis=0),
}
