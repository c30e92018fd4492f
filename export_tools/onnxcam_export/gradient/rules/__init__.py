"""The table of derivatives: (domain, operator) -> vector-Jacobian product.

A rule is called as `rule(op, node, dy, ...)`: `op` emits nodes, `node` is the forward node,
`dy` the gradient at its first output (one more argument per further output, None where nothing
flows). It returns one gradient per input (or a function that emits it when it is wanted), None
where none flows; the walk sums broadcasts back (:data:`BROADCASTING`) and adds up what several
consumers contribute. A rule that cannot do it raises UnsupportedOpError with the reason alone; the
walk adds operator, opset and the nearest layer that works.

Notation of the rows: x, x0, x1 are inputs, y the output, dy its gradient, dx what is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from onnxcam_export.gradient.ops import Grad
from onnxcam_export.gradient.rules import (
    activations,
    arithmetic,
    col2im,
    convolution,
    deform_conv,
    dense,
    einsum,
    functions,
    grid_sample,
    indexing,
    layout,
    normalization,
    pooling,
    quantization,
    recurrent,
    reduction,
    refused,
    roi_align,
    sampling,
    trigonometry,
)

Rule = Callable[..., Sequence[Grad]]

_MODULES = (
    arithmetic,
    trigonometry,
    activations,
    dense,
    einsum,
    convolution,
    deform_conv,
    col2im,
    pooling,
    reduction,
    normalization,
    quantization,
    layout,
    recurrent,
    sampling,
    indexing,
    grid_sample,
    roi_align,
    functions,
)


def _merge(tables: Sequence[Mapping[tuple[str, str], Rule]]) -> dict[tuple[str, str], Rule]:
    merged: dict[tuple[str, str], Rule] = {}
    for table in tables:
        for key, rule in table.items():
            if key in merged:
                raise ValueError(f"two derivatives for {key}")
            merged[key] = rule
    return merged


RULES: Mapping[tuple[str, str], Rule] = _merge([module.TABLE for module in _MODULES])

# Operators that have no derivative on purpose -> why.
REFUSED: Mapping[tuple[str, str], str] = refused.TABLE

# Operators whose inputs are broadcast as numpy does; their rules return gradients of the
# output's shape, and the walk sums them back.
BROADCASTING = frozenset(arithmetic.BROADCASTING | activations.BROADCASTING)

# The types of tensors that carry a gradient.
CARRIERS = quantization.CARRIERS
