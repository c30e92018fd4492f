"""`onnxcam explain`: predict and explain pictures with an explaining file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.cli.predictions import as_document, as_table
from onnxcam.cli.providers_option import (
    add_providers_argument,
    describe_placement,
    placement_document,
    starting_providers,
)
from onnxcam.colormaps import COLORMAPS
from onnxcam.engine import Engine
from onnxcam.errors import InputError, PictureError
from onnxcam.methods import METHODS
from onnxcam.painting import BLENDS, INTERPOLATIONS, PRESETS
from onnxcam.providers import parse_providers
from onnxcam.result import Result, picture_format

_TOP = 10
_SUFFIX = ".cam.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("model", metavar="FILE.onnx", help="an explaining file, from 'onnxcam export'")
    add("pictures", metavar="PICTURE", nargs="+", help="pictures to explain")
    add(
        "-o",
        "--output",
        metavar="OUT",
        help="picture to write; a folder for several pictures, or when it ends in a slash "
        "(default: NAME.cam.png in the current folder)",
    )
    add("--target", metavar="INDEX|NAME", help="class to explain (default: the highest score)")
    add("--layer", metavar="NAME", help="which of the file's layers (default: the first)")
    add(
        "--input",
        metavar="NAME=FILE.npy",
        action="append",
        default=[],
        help="a further input of the model; may be repeated",
    )
    add("--method", metavar="M", help=f"one of {', '.join(METHODS)} (default: gradcam)")
    add("--alpha", type=float, metavar="A", help="weight of the colours, 0 to 1 (default: 0.4)")
    add("--colormap", metavar="C", help=f"one of {', '.join(COLORMAPS)} (default: jet)")
    add("--preset", metavar="P", help=f"paint as others do: {', '.join(PRESETS)}")
    add("--blend", metavar="B", help=f"one of {', '.join(BLENDS)} (default: alpha)")
    add("--interpolation", metavar="I", help=f"one of {', '.join(INTERPOLATIONS)}")
    add("--figure", action="store_true", help="write picture and overlay side by side, with title")
    add("--save-map", action="store_true", help="write the heatmap, at the picture's size, as .npy")
    add("--json", action="store_true", help="print one JSON document instead of tables")
    add("--preprocess", metavar="SPEC", help="imagenet, caffe, tf, unit, or a JSON file")
    add("--labels", metavar="FILE", help="class names, one a line or JSON")
    add_providers_argument(parser)
    add("--threads", type=int, metavar="N", help="threads inside an operator")


def run(args: argparse.Namespace) -> int:
    """Explain every picture; returns 0, or 2 when a picture could not be explained."""
    outputs = plan_outputs(args.pictures, args.output, args.model, args.save_map)
    with starting_providers(args.providers):
        engine = Engine(
            args.model,
            providers=parse_providers(args.providers),
            threads=args.threads,
            method=args.method,
            preprocess=args.preprocess,
            labels=args.labels,
        )
    inputs = read_inputs(args.input)
    layer = engine.find_layer(args.layer)
    documents: list[dict[str, Any]] = []
    failures = 0
    placed = describe_placement(engine.model.session)
    if placed and not args.json:
        print(placed)
    for picture, output in zip(args.pictures, outputs, strict=True):
        try:
            result = engine.explain(Path(picture), args.target, layer=layer, inputs=inputs)
            _write(result, output, args)
        except (PictureError, OSError) as error:  # OSError: the disk is full, a folder is gone
            if len(args.pictures) == 1:
                raise
            failures += 1
            documents.append({"picture": picture, "error": str(error)})
            print(f"onnxcam explain: {error}", file=sys.stderr)
            continue
        document = as_document(result, _TOP)
        documents.append(
            {"picture": picture, **document, "overlay": str(output), "map": _map_name(output, args)}
        )
        if not args.json:
            print(f"{picture}\n{as_table(result.top(_TOP))}")
            if result.diagnosis.reason:
                print(f"  no map ({result.diagnosis.reason}): {result.diagnosis.sentence}")
            print(f"  -> {output}")
    if args.json:
        title = engine.contract.layers[layer].title
        document = {
            "model": args.model,
            "layer": title,
            "placement": placement_document(engine.model.session),
            "pictures": documents,
        }
        print(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False))
    return 2 if failures else 0


def read_inputs(arguments: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Arrays by name, of arguments like NAME=FILE.npy.

    Raises:
        InputError: another form, or a file that can't be read.
    """
    inputs = {}
    for argument in arguments:
        name, _, path = argument.partition("=")
        if not name or not path:
            raise InputError(f"--input: expected NAME=FILE.npy, got {argument!r}")
        try:
            inputs[name] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"--input {name}: cannot read '{path}': {error}") from error
        if not isinstance(inputs[name], np.ndarray):
            raise InputError(f"--input {name}: '{path}' holds several arrays; expected a .npy file")
    return inputs


def plan_outputs(
    pictures: Sequence[str], output: str | None, model: str, save_map: bool = False
) -> list[Path]:
    """Where every picture's overlay goes; no two to the same file, none onto an input.

    Raises:
        PictureError: a suffix that can't be written.
        InputError: an output that is an input, or one file for several pictures.
    """
    is_folder = output is not None and (output.endswith(("/", "\\")) or Path(output).is_dir())
    if output is not None and not is_folder and len(pictures) == 1:
        planned = [Path(output)]
    else:
        folder = Path(output or ".")
        if folder.exists() and not folder.is_dir():
            raise InputError(f"'{output}': several pictures need a folder, this is a file")
        planned = list(_names(folder, pictures))
    inputs = {Path(name).resolve() for name in (*pictures, model)}
    for path in planned:
        picture_format(path)
        for each in (path, map_path(path)) if save_map else (path,):
            if each.resolve() in inputs:
                raise InputError(f"'{each}': would overwrite an input; choose another -o")
    for folder in {path.parent for path in planned}:
        if is_folder or len(pictures) > 1:
            folder.mkdir(parents=True, exist_ok=True)
        elif not folder.is_dir():
            raise InputError(f"'{folder}': no such folder")
    return planned


def map_path(output: Path) -> Path:
    """Where the map of this overlay goes."""
    return output.with_suffix(".npy")


def _names(folder: Path, pictures: Iterable[str]) -> Iterable[Path]:
    """NAME.cam.png for each; a later picture of the same name becomes NAME-2.cam.png."""
    taken: set[str] = set()
    for picture in pictures:
        stem = Path(picture).stem or "picture"
        name, count = stem, 1
        while name.casefold() in taken:  # some file systems do not tell cases apart
            count += 1
            name = f"{stem}-{count}"
        taken.add(name.casefold())
        yield folder / f"{name}{_SUFFIX}"


def _write(result: Result, output: Path, args: argparse.Namespace) -> None:
    result.save(
        output,
        args.alpha,
        args.colormap,
        args.preset,
        figure=args.figure,
        blend=args.blend,
        interpolation=args.interpolation,
    )
    if args.save_map:
        result.save_map(map_path(output))


def _map_name(output: Path, args: argparse.Namespace) -> str | None:
    return str(map_path(output)) if args.save_map else None
