"""The CAM methods: a table.

The exporter's graph builders bear the same names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from onnxcam.errors import MethodError

DEFAULT_METHOD = "gradcam"


class Method(NamedTuple):
    """A way from activation and gradient to a map.

    `title` is its name in print, `paper` where it comes from, `kernel` its function in
    :mod:`onnxcam.kernels`: float32 activation [N, C, P] and gradient [N, K, C, P] to signed and
    finished maps [N, K, P], P being the product of the spatial axes.
    """

    name: str
    title: str
    paper: str
    kernel: str

    def load(self) -> Callable[..., None]:
        """The compiled kernel ``f(activation, gradient, raw, finished, summary)``."""
        from onnxcam import compiled

        return getattr(compiled, self.kernel)  # type: ignore[no-any-return]


_ROWS = (
    Method("gradcam", "Grad-CAM", "arXiv 1610.02391", "gradcam"),
    Method("gradcam++", "Grad-CAM++", "arXiv 1710.11063", "gradcam_plusplus"),
    Method("xgradcam", "XGrad-CAM", "arXiv 2008.02312", "xgradcam"),
    Method("layercam", "LayerCAM", "doi 10.1109/TIP.2021.3089943", "layercam"),
    Method("hirescam", "HiResCAM", "arXiv 2011.08891", "hirescam"),
    Method(
        "gradcam-elementwise",
        "elementwise Grad-CAM",
        "GradCAMElementWise of pytorch-grad-cam",
        "gradcam_elementwise",
    ),
)
METHODS: dict[str, Method] = {row.name: row for row in _ROWS}


def find_method(name: str) -> Method:
    """The method of this name.

    Raises:
        MethodError: there is none; the message lists them.
    """
    if name in METHODS:
        return METHODS[name]
    import difflib

    near = difflib.get_close_matches(str(name).casefold(), METHODS, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise MethodError(f"method '{name}' is unknown{hint}; known are {', '.join(METHODS)}")
