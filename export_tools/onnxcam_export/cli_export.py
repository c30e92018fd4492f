"""`onnxcam export onnx|torch|keras`: an explaining ONNX file of a model."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxcam.contract import TARGET
from onnxcam.errors import ExportError
from onnxcam.methods import METHODS
from onnxcam_export import need_onnx

if TYPE_CHECKING:
    from onnxcam_export.assemble import Built
    from onnxcam_export.sources import Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="onnx|torch|keras", required=True)
    plain = kinds.add_parser("onnx", help="from an ONNX file")
    plain.add_argument("model", metavar="FILE.onnx")
    torch = kinds.add_parser("torch", help="from a PyTorch module made by a function")
    torch.add_argument(
        "model", metavar="MODULE:FACTORY", help="such as torchvision.models:resnet18"
    )
    torch.add_argument("--weights", metavar="FILE", help="state dict, read with weights_only=True")
    keras = kinds.add_parser("keras", help="from a Keras 3 file or a function")
    keras.add_argument("model", metavar="FILE.keras|MODULE:FACTORY")
    for factory in (torch, keras):
        factory.add_argument("--kwargs", metavar="JSON", default="{}", help="arguments of FACTORY")
    for kind in (plain, torch, keras):
        _add_common(kind)
    torch.set_defaults(capture=_capture_torch)
    plain.set_defaults(capture=_capture_onnx)
    keras.set_defaults(capture=_capture_keras)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layer", metavar="NAME", action="append",
        help="tensor, node or framework's name; 'last_conv'; default the last spatial activation; "
        "repeated for several layers in one file",
    )  # fmt: skip
    parser.add_argument(
        "--grid", metavar="HxW",
        help="how the tokens of the named layer lie on the picture, such as 14x14, where the "
        "graph does not tell",
    )  # fmt: skip
    parser.add_argument(
        "--output-name", metavar="NAME", help="the output to score; default the first"
    )
    parser.add_argument(
        "--input-name", metavar="NAME", help="the input that takes the picture, of several"
    )
    parser.add_argument(
        "--targets", metavar="K", type=int, help="maps of K classes of each image in one run"
    )
    parser.add_argument(
        "--emit", choices=("gradient", "weights", "heatmap"), default="gradient",
        help="weights: only the mean of the gradient over space, which Grad-CAM needs; "
        "heatmap: the map itself, finished",
    )  # fmt: skip
    parser.add_argument(
        "--method", metavar="M", help=f"of the heatmap, one of {', '.join(METHODS)} (gradcam)"
    )
    parser.add_argument(
        "--heatmap-size", choices=("map", "input"),
        help="of the heatmap: the layer's (map, the default) or the picture input's",
    )  # fmt: skip
    parser.add_argument(
        "--input", choices=("model", "uint8"), default="model",
        help="uint8: the file takes pictures as bytes, [N, H, W, 3] RGB, and normalises them",
    )  # fmt: skip
    parser.add_argument(
        "--score-of", choices=("class", "element", "region", "dot", "cosine"), default="class",
        help="what of the output is scored: a class; one element of any output; a channel's mean "
        "over a region (input cam_mask); likeness to a vector (input cam_vector)",
    )  # fmt: skip
    parser.add_argument("--score", choices=("logit", "probability"), default="logit")
    parser.add_argument(
        "--activation", choices=("softmax", "sigmoid", "none"),
        help="what makes probabilities of logits, where the model does not say",
    )  # fmt: skip
    parser.add_argument("--input-size", metavar="CxHxW", help="such as 3x224x224")
    parser.add_argument(
        "--preprocess", metavar="SPEC", help="imagenet, caffe, tf, unit, none, or a JSON file"
    )
    parser.add_argument("--labels", metavar="FILE", help="class names, one a line; or 'imagenet'")
    parser.add_argument(
        "--opset", metavar="N", type=int,
        help="the operator set to write, 13 to 21; default the source's own where it can be kept",
    )  # fmt: skip
    parser.add_argument(
        "--verify", action="store_true", help="compare with an independent gradient"
    )
    parser.add_argument("-o", "--output", metavar="OUT.onnx", required=True)


def run(args: argparse.Namespace) -> int:
    need_onnx("exporting")
    from onnxcam_export.assemble import build
    from onnxcam_export.writing import write

    output = Path(args.output)
    if not output.parent.is_dir():
        raise ExportError(f"cannot write {output}: the folder {output.parent} does not exist")
    if args.kind != "torch" and output.exists() and _same_file(output, args.model):
        raise ExportError(f"{output} is the source itself; choose another name for the result")
    _fill_from_zoo(args)
    started = time.perf_counter()
    source: Source = args.capture(args)
    built = build(
        source,
        layer=args.layer,
        score=args.score,
        activation=args.activation,
        output_name=args.output_name,
        input_name=args.input_name,
        targets=args.targets,
        emit=args.emit,
        method=args.method,
        heatmap_size=args.heatmap_size,
        input=args.input,
        score_of=args.score_of,
        grid=_sides("--grid", args.grid, "14x14") if args.grid else None,
        opset=args.opset,
        preprocess=args.preprocess,
        labels=_labels(args.labels),
        size=_size(args.input_size)[1:] if args.input_size else None,
    )
    _report(built)
    if args.verify:
        from onnxcam_export.verify import verify_each

        for found in verify_each(built, source):
            print("\n".join(found.lines()))
    path = write(built.model, output)
    megabytes = path.stat().st_size / 1e6
    print(f"wrote {path} ({megabytes:.1f} MB, {time.perf_counter() - started:.1f} s)")
    return 0


def _capture_onnx(args: argparse.Namespace) -> Source:
    from onnxcam_export.sources import onnx_file

    return onnx_file.capture(args.model)


def _capture_torch(args: argparse.Namespace) -> Source:
    from onnxcam_export.sources import factory, pytorch
    from onnxcam_export.sources._torch_export import import_torch

    if args.input_size is None:
        raise ExportError("--input-size is needed: the shape of one picture, such as 3x224x224")
    module = factory.load_factory(args.model, _kwargs(args.kwargs), args.weights)
    example = import_torch().zeros(1, *_size(args.input_size))
    return pytorch.capture(module, example, args.layer)


def _capture_keras(args: argparse.Namespace) -> Source:
    from onnxcam_export.sources import factory, keras_model

    keras_model.choose_backend()
    size = _size(args.input_size)[1:] if args.input_size else None
    if os.path.exists(args.model) or args.model.endswith((".keras", ".h5")):
        return keras_model.capture(args.model, args.layer, input_size=size)
    model = factory.load_factory(args.model, _kwargs(args.kwargs), None)
    return keras_model.capture(model, args.layer, input_size=size)


def _fill_from_zoo(args: argparse.Namespace) -> None:
    """What is known of a public zoo's model, where the user said nothing."""
    if args.kind == "onnx" or (args.preprocess is not None and args.labels is not None):
        return
    try:
        from onnxcam_models import zoo
    except ImportError:
        return
    entry = zoo.lookup(args.model, _kwargs(args.kwargs))
    if entry is None:
        return
    if args.preprocess is None and entry.preprocess is not None:
        args.preprocess = entry.preprocess
        if args.input_size is not None:
            args.preprocess = _resized(entry.preprocess, _size(args.input_size)[1:])
        print(f"preprocess: {entry.source}")
    if args.labels is None and entry.labels is not None:
        args.labels = entry.labels
        print(f"labels: {len(entry.labels)} from {entry.source}")
    if args.layer is None and entry.layer is not None:
        args.layer = entry.layer


def _resized(preprocess: Any, size: tuple[int, int]) -> Any:
    """The zoo's preprocessing at another input size, the margin of the crop in proportion."""
    from dataclasses import replace

    if preprocess.size == size:
        return preprocess
    resize = preprocess.resize
    if resize.shorter_side is not None:
        side = round(resize.shorter_side * max(size) / max(preprocess.size))
        resize = replace(resize, shorter_side=max(side, *size))
    return replace(preprocess, size=size, resize=resize)


def _labels(spec: Any) -> Any:
    if spec == "imagenet" and not os.path.exists(spec):
        from onnxcam_models import imagenet_labels

        return imagenet_labels()
    return spec


def _kwargs(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ExportError(f"--kwargs: expected a JSON object, got {text!r}: {error}") from error
    if not isinstance(value, dict):
        raise ExportError(f"--kwargs: expected a JSON object, got {text!r}")
    return value


def _size(text: str) -> tuple[int, int, int]:
    channels, height, width = _sides("--input-size", text, "3x224x224")
    return channels, height, width


def _sides(option: str, text: str, like: str) -> tuple[int, ...]:
    """Positive whole numbers with an x between them, as many as in `like`."""
    parts = text.lower().split("x")
    good = all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts)
    if not good or len(parts) != like.count("x") + 1:
        raise ExportError(f"{option}: expected sizes such as {like}, got {text!r}")
    return tuple(int(part) for part in parts)


def _same_file(output: Path, model: str) -> bool:
    return os.path.exists(model) and os.path.samefile(output, model)


def _report(built: Built) -> None:
    """The choices, the guessed ones marked: never silent."""
    output = built.contract.output
    for layer in built.layers:
        sizes = ", ".join(str(size) for size in layer.shape)
        name = f" ({layer.name})" if layer.name and layer.name != layer.value.name else ""
        note = f"; {layer.note}" if layer.note else ""
        print(f"layer: {layer.value.name}{name} [{sizes}]{note}")
    scored = built.score
    if scored.of == "class":
        number = "class" if scored.classes == 1 else "classes"
        values = f"{scored.classes} {number}, {_output_text(built)}"
    else:
        number = "value" if scored.classes == 1 else "values"
        values = f"{scored.of} of '{scored.made_of}', {scored.classes} {number}"
    print(f"score: {built.contract.score} of '{output.name}', {values}")
    if built.contract.emit == "heatmap":
        size = {"map": "the layer's", "input": "the input's"}[built.contract.heatmap_size]
        print(f"heatmap: {built.contract.method}, of {size} size")
    picture = built.contract.picture
    if picture != built.plain_picture and picture.preprocess is not None:
        preprocess = picture.preprocess
        print(f"input: '{picture.name}', bytes [N, H, W, {preprocess.channels}] {preprocess.color}")
    print(f"opset: {_opset_text(built)}")
    own = (built.contract.picture.name, TARGET)
    further = [value.name for value in built.model.graph.input if value.name not in own]
    if further:
        print(f"further inputs: {', '.join(further)}")
    if built.contract.picture.preprocess is None:
        print(
            "preprocess: none in the file; `onnxcam explain` will ask for --preprocess",
            file=sys.stderr,
        )


def _opset_text(built: Built) -> str:
    from onnxcam_export.loading import opset_of

    source, written = built.source_opset, opset_of(built.model)
    return str(written) if source == written else f"{written} (the source's is {source})"


def _output_text(built: Built) -> str:
    output = built.contract.output
    if output.kind == "logits":
        assumed = " (assumed: --activation says otherwise)" if built.score.assumed else ""
        return f"logits, probabilities by {output.activation}{assumed}"
    return {"raw": "raw values"}.get(output.kind, f"{output.kind} probabilities")
