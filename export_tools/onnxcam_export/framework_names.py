"""The names that PyTorch and Keras gave to layers, read off an ONNX file.

Four kinds of traces are known, in the order in which they are trusted:

1. `pkg.torch.onnx.name_scopes` in a node's metadata (torch's dynamo exporter),
2. names of weights (`layer4.1.conv2.weight`),
3. node names that are paths with the module in them (`/layer4/layer4.1/conv2/Conv`, torch's
   older exporter),
4. node names that are paths of Keras layers (`model/block5_conv3/Relu`, tf2onnx).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

import onnx_ir as ir

NAME_SCOPES = "pkg.torch.onnx.name_scopes"
FUSED_NOTE = "read off a convolution's weights: where a batch norm was folded in, it is included"

Modules = dict[str, tuple[ir.Value, str]]


def framework_names(nodes: Sequence[ir.Node]) -> dict[ir.Value, str]:
    """The name of the layer that ends in each tensor, for those of which it is known."""
    names: dict[ir.Value, str] = {}
    for modules in reversed(list(modules_of(nodes))):
        for name, (value, _) in modules.items():
            # The deepest module is the most telling name: `layer4.1.relu`, not `layer4`.
            if value not in names or len(name) >= len(names[value]):
                names[value] = name
    return names


def modules_of(nodes: Sequence[ir.Node]) -> Iterator[Modules]:
    """Per kind of trace: module name -> (its last output, a note for the user)."""
    yield _from_scopes(nodes)
    yield _from_weights(nodes)
    yield _from_torch_paths(nodes)
    yield _from_keras_paths(nodes)


def short_name(name: str, limit: int = 60) -> str:
    """A name cut to a readable length (tf2onnx chains several with semicolons)."""
    first = name.split(";")[-1]
    return first if len(first) <= limit else f"...{first[-limit:]}"


def _from_scopes(nodes: Sequence[ir.Node]) -> Modules:
    modules: Modules = {}
    for node in nodes:
        for scope in _scopes(node)[:-1]:  # the last one is the operator itself
            if scope:
                modules[scope] = (node.outputs[0], "")  # later nodes win: a module's last output
    return modules


def _scopes(node: ir.Node) -> list[str]:
    text = node.metadata_props.get(NAME_SCOPES)
    if not text:
        return []
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return []
    return [str(scope) for scope in scopes] if isinstance(scopes, list) else []


def _from_weights(nodes: Sequence[ir.Node]) -> Modules:
    modules: Modules = {}
    for node in nodes:
        for value in node.inputs:
            name = value.name if value is not None and value.is_initializer() else None
            if name and name.endswith(".weight"):
                note = FUSED_NOTE if node.op_type == "Conv" else ""
                modules[name.removesuffix(".weight")] = (node.outputs[0], note)
    return modules


def _from_torch_paths(nodes: Sequence[ir.Node]) -> Modules:
    """`/layer4/layer4.1/conv2/Conv`: a part repeats the one before it and goes on, or adds to it.

    Children of a Sequential bear its name once more, wherever it stands: the second block of
    `stages.3.blocks` is `/stages/stages.3/blocks/blocks.1`.
    """
    modules: Modules = {}
    for node in nodes:
        if not node.name or not node.name.startswith("/"):
            continue
        module, before = "", ""
        for part in node.name.split("/")[1:-1]:
            if before and part.startswith(f"{before}."):
                module = module.removesuffix(before) + part
            else:
                module = f"{module}.{part}" if module else part
            before = part
            modules[module] = (node.outputs[0], "")
    return modules


def _from_keras_paths(nodes: Sequence[ir.Node]) -> Modules:
    """`model/block5_conv3/Relu;model/block5_conv3/BiasAdd`: the second part is the layer."""
    modules: Modules = {}
    for node in nodes:
        for chained in (node.name or "").split(";"):
            parts = chained.split("/")
            if chained.startswith("/") or len(parts) < 3:
                continue
            for part in parts[1:-1]:
                modules[part] = (node.outputs[0], "")
    return modules
