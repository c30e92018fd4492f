"""`onnxcam bench`: what explaining costs with a file of one's own, on one's own machine."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

from onnxcam.cli.bench_roads import EXPLAINING, MAPS, OWN_ONLY, PLAIN, Bench
from onnxcam.cli.providers_option import (
    add_providers_argument,
    describe_placement,
    placement_document,
)
from onnxcam.cli.timing import interleaved, machine, percentiles, quartiles
from onnxcam.errors import InputError
from onnxcam.methods import METHODS

_NOT_PLAIN = (
    "'own outputs only' is not the plain model: onnxruntime computes the explanation even where "
    "nobody asks for it; give --plain PLAIN.onnx for what explaining adds"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("model", metavar="FILE.onnx", help="an explaining file, from 'onnxcam export'")
    add("--plain", metavar="PLAIN.onnx", help="the file that it was made of, to compare with")
    add("--picture", metavar="P", help="a picture (default: random input)")
    add("--preprocess", metavar="SPEC", help="imagenet, caffe, tf, unit, or a JSON file")
    add(
        "--input",
        metavar="NAME=FILE.npy",
        action="append",
        default=[],
        help="an input of the model, instead of random values; may be repeated",
    )
    add("--batch", type=int, metavar="N", help="images at once (default: the file's, or 1)")
    add("--layer", metavar="NAME", help="which of the file's layers (default: the first)")
    add("--method", metavar="M", help=f"one of {', '.join(METHODS)} (default: gradcam)")
    add("--threads", type=int, metavar="T", help="threads inside an operator")
    add_providers_argument(parser)
    add("--seconds", type=float, default=10.0, metavar="S", help="how long to measure (10)")
    add("--json", action="store_true", help="print one JSON document instead of a table")


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns 0."""
    if not (math.isfinite(args.seconds) and args.seconds > 0):
        raise InputError(f"--seconds: expected more than 0, got {args.seconds:g}")
    bench = Bench(args)
    document: dict[str, Any] = {
        "model": args.model,
        "plain": args.plain,
        "layer": bench.engine.contract.layers[bench.layer].title,
        "method": bench.engine.method,
        "input": f"{bench.tensor.dtype} {list(bench.tensor.shape)}",
        "picture": None if bench.picture is None else list(bench.picture.shape[:2]),
        "threads": args.threads,
        "machine": machine(bench.engine.providers),
        "placement": placement_document(bench.engine.model.session),
    }
    if not args.json:
        print(_heading(document), flush=True)
        placed = describe_placement(bench.engine.model.session)
        if placed:
            print(placed, flush=True)
    base = PLAIN if args.plain else OWN_ONLY
    times = interleaved(bench.roads, args.seconds)
    document["rounds"] = len(times[EXPLAINING])
    document["milliseconds"] = {name: percentiles(taken) for name, taken in times.items()}
    document["ratios"] = {
        f"{above} / {below}": quartiles(times[above] / times[below])
        for above, below in ((EXPLAINING, base), (MAPS, base), (MAPS, EXPLAINING))
    }
    document["note"] = None if args.plain else _NOT_PLAIN
    if args.json:
        print(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False))
    else:
        print(_table(document))
    return 0


def _heading(document: dict[str, Any]) -> str:
    about = document["machine"]
    cores = f"{about['cores']} core{'s' if about['cores'] > 1 else ''}"
    threads = "threads: onnxruntime's choice"
    if document["threads"] is not None:
        threads = f"threads: {document['threads']}"
    line = (
        f"{about['system']}, {cores}, {threads}, onnxruntime {about['onnxruntime']} "
        f"({', '.join(about['providers'])}), Python {about['python']}"
    )
    method = document["method"] or "the file's method"
    subject = f"{document['model']}, layer {document['layer']}, {method}"
    size = document["picture"]
    painted = f", picture {size[1]}x{size[0]}" if size else ""
    return f"{line}\n{subject}, input {document['input']}{painted}"


def _table(document: dict[str, Any]) -> str:
    rows = document["milliseconds"]
    width = max(map(len, (*rows, *document["ratios"])))
    lines = ["", f"{'milliseconds':{width}}  {'p50':>9}  {'p90':>9}  {'p99':>9}"]
    for name, found in rows.items():
        cells = "  ".join(f"{value:9.3f}" for value in found.values())
        lines.append(f"{name:{width}}  {cells}")
    lines += ["", f"{'ratio':{width}}  {'median':>9}  quartiles"]
    for name, found in document["ratios"].items():
        spread = f"{found['lower']:.3f} to {found['upper']:.3f}"
        lines.append(f"{name:{width}}  {found['median']:9.3f}  {spread}")
    lines += ["", f"{document['rounds']} rounds, all of them in turn"]
    if document["note"]:
        lines.append(document["note"])
    return "\n".join(lines)
