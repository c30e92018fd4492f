"""`onnxcam serve-config triton`: what an inference server needs beside an explaining file."""

from __future__ import annotations

import argparse
from pathlib import Path

from onnxcam.model import Model
from onnxcam.serving.repository import check_name, default_name, write_repository
from onnxcam.serving.triton import DEFAULT_MAX_BATCH_SIZE, configure
from onnxcam.session import Session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    servers = parser.add_subparsers(dest="server", metavar="triton", required=True)
    triton = servers.add_parser("triton", help="a model repository of Triton Inference Server")
    add = triton.add_argument
    add("model", metavar="FILE.onnx", help="an explaining file, from 'onnxcam export'")
    add("-o", "--output", metavar="REPO", required=True, help="the repository; made if need be")
    add("--name", metavar="NAME", help="the model's name there (default: that of the file)")
    add(
        "--max-batch-size",
        type=int,
        metavar="N",
        help="images that the server may put into one run; 0: none "
        f"(default: {DEFAULT_MAX_BATCH_SIZE} where the file takes any number)",
    )
    add("--instances", type=int, default=1, metavar="N", help="copies that run at once (1)")
    add("--gpu", action="store_true", help="run on the server's GPUs, not on its CPU")


def run(args: argparse.Namespace) -> int:
    """Write the repository; returns 0."""
    source = Path(args.model)
    name = default_name(source) if args.name is None else check_name(args.name)
    model = Model(Session(args.model), None)
    found = configure(
        model,
        name,
        max_batch_size=args.max_batch_size,
        instances=args.instances,
        gpu=args.gpu,
    )
    folder = write_repository(source, Path(args.output), name, found)
    if found.max_batch_size > 1:
        print(f"batches: up to {found.max_batch_size} images, put together by the server")
    else:
        print(f"batches: none ({found.why_unbatched or 'as asked for'})")
    print(f"wrote {folder}")
    return 0
