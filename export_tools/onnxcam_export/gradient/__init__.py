"""Reverse-mode differentiation of ONNX graphs, written down as standard ONNX operators.

- :mod:`.ops` emits nodes,
- :mod:`.rules` is the table: one vector-Jacobian product per operator,
- :mod:`.walk` goes from the score back to the activation and applies the table.
"""

from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.walk import gradient

__all__ = ["Ops", "gradient"]
