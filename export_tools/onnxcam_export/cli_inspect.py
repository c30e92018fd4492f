"""`onnxcam inspect FILE.onnx`: what a model takes, gives, and could explain."""

from __future__ import annotations

import argparse
from typing import Any

from onnxcam.contract import METADATA_KEY, TARGET, Contract
from onnxcam.errors import OnnxcamError
from onnxcam_export import need_onnx


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="FILE.onnx")
    parser.add_argument(
        "--all", action="store_true", help="list every candidate layer, not the last 20"
    )
    parser.add_argument("--output-name", metavar="NAME", help="the scored output; the first")
    parser.add_argument(
        "--score-of", metavar="WHAT", default="class", help="as for export; default class"
    )


def run(args: argparse.Namespace) -> int:
    need_onnx("inspect")
    from onnxcam_export.loading import load_proto, opset_of

    proto = load_proto(args.model)
    producer = f"{proto.producer_name} {proto.producer_version}".strip() or "unknown"
    print(f"{args.model}: opset {opset_of(proto)}, IR {proto.ir_version}, made by {producer}")
    constants = {tensor.name for tensor in proto.graph.initializer}
    print("inputs")
    for value in proto.graph.input:
        if value.name not in constants:
            print(f"  {_described(value)}")
    print("outputs")
    for value in proto.graph.output:
        print(f"  {_described(value)}")
    text = next((p.value for p in proto.metadata_props if p.key == METADATA_KEY), None)
    if text is not None:
        _print_contract(Contract.loads(text), _target_shape(proto))
        return 0
    print("contract: none; `onnxcam export onnx` makes an explaining file of this one")
    return _print_layers(proto, args)


def _described(value: Any) -> str:
    import onnx

    tensor = value.type.tensor_type
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    sizes = ", ".join(str(d.dim_value or d.dim_param or "?") for d in tensor.shape.dim)
    return f"{value.name}  {kind} [{sizes}]"


def _target_shape(proto: Any) -> list[int] | None:
    for value in proto.graph.input:
        if value.name == TARGET:
            return [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return None


def _print_contract(contract: Contract, targets: list[int] | None) -> None:
    print("contract")
    print(f"  emits       {_emitted(contract)}")
    for layer in contract.layers:
        name = f" ({layer.name})" if layer.name and layer.name != layer.tensor else ""
        print(f"  layer       {layer.tensor}{name}")
    output, picture = contract.output, contract.picture
    if targets is not None and len(targets) > 1:
        print(f"  targets     {targets[1]} an image")
    print(f"  score       {contract.score} of output '{output.name}' ({output.kind})")
    preprocess = picture.preprocess
    described = preprocess.to_json() if preprocess else "none: explain needs --preprocess"
    print(f"  input       '{picture.name}' {picture.dtype} {picture.layout}")
    print(f"  preprocess  {described}")
    labels = contract.labels
    shown = f"{len(labels)} ({labels[0]}, ...)" if labels else "none"
    print(f"  labels      {shown}")
    print(f"  made by     {', '.join(f'{k} {v}' for k, v in contract.producer.items())}")


def _emitted(contract: Contract) -> str:
    if contract.emit != "heatmap":
        return contract.emit
    size = {"map": "the layer's size", "input": "the input's size"}[contract.heatmap_size]
    return f"heatmap ({contract.method or 'of an unknown method'}, {size})"


def _print_layers(proto: Any, args: argparse.Namespace) -> int:
    from onnxcam_export.framework_names import short_name
    from onnxcam_export.layers import Layers
    from onnxcam_export.loading import prepare
    from onnxcam_export.score import find_score

    try:
        graph = prepare(proto).graph
        score = find_score(graph, "logit", None, args.output_name, args.score_of)
        layers = Layers(graph, score.value)
        default = layers.default()
    except OnnxcamError as error:
        print(f"layers: {error}")
        return 0
    print(
        f"score: {score.classes} values at '{score.value.name}' (output holds {score.output.kind})"
    )
    candidates = layers.candidates()
    shown = candidates if args.all else candidates[-20:]
    print("layers (channels first; * is the default)")
    if len(shown) < len(candidates):
        print(f"  ... {len(candidates) - len(shown)} earlier ones: --all lists them")
    rows = []
    for candidate in shown:
        producer = candidate.value.producer()
        sizes = ", ".join(str(size) for size in candidate.shape)
        mark = "*" if candidate.value is default.value else " "
        tensor = str(candidate.value.name)
        name = candidate.name if candidate.name not in (None, tensor) else ""
        rows.append(
            (
                mark,
                short_name(tensor),
                producer.op_type if producer else "",
                f"[{sizes}]",
                name or "",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(f"  {line}".rstrip())
    if default.note:
        print(f"default: {default.note}")
    return 0
