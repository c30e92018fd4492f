"""Operators whose derivative is zero almost everywhere: refused, so that no map is blank."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import onnx_ir as ir

from onnxcam.errors import UnsupportedOpError
from onnxcam_export.gradient.ops import Ops


def _refuse(op: Ops, n: ir.Node, *_: ir.Value | None) -> NoReturn:
    raise UnsupportedOpError(
        f"operator {n.op_type} '{n.name}' lies between the layer and the score and its derivative "
        f"is zero almost everywhere; choose a layer after it, such as its output "
        f"'{n.outputs[0].name}'"
    )


TABLE: dict[tuple[str, str], Callable[..., NoReturn]] = {
    ("", name): _refuse for name in ("Round", "Floor", "Ceil", "Sign")
}
