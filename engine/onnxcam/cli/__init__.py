"""The `onnxcam` command: one small module per subcommand, imported only when it is called.

A subcommand's module has `add_arguments(parser)` and `run(args) -> int`. The modules of
`export`, `inspect` and `demo` live in the build-time packages, so that `import onnxcam` never
loads onnx, torch or keras.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from onnxcam._version import __version__
from onnxcam.errors import OnnxcamError

# name -> (module, one line of help)
SUBCOMMANDS: dict[str, tuple[str, str]] = {
    "demo": (
        "onnxcam_models.cli_demo",
        "explain a small shipped network from nothing",
    ),
    "inspect": (
        "onnxcam_export.cli_inspect",
        "show a model's inputs, outputs and layers",
    ),
    "export": ("onnxcam_export.cli_export", "make an explaining ONNX file of a model"),
    "explain": ("onnxcam.cli.explain", "predict and explain pictures with an explaining file"),
    "bench": ("onnxcam.cli.bench", "measure what explaining costs with an explaining file"),
    "web": ("onnxcam.web.cli", "make a site that explains pictures in the visitor's browser"),
    "javascript": ("onnxcam.javascript.cli", "write the npm package, for Node and one's own pages"),
    "serve-config": (
        "onnxcam.cli.serve_config",
        "write what an inference server (Triton) needs beside an explaining file",
    ),
    "native": ("onnxcam.native.cli", "build the kernels as a library for C, WebAssembly, ..."),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0 done, 2 bad input, 130 interrupted)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):  # a label outside of the terminal's alphabet
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    parser = _parser(arguments)
    try:
        args = parser.parse_args(arguments)
    except SystemExit as stop:  # argparse has printed its message
        return int(stop.code or 0)
    if args.subcommand is None:
        parser.print_help()
        return 0
    try:
        return int(args.run(args))
    except OnnxcamError as error:
        print(f"onnxcam {args.subcommand}: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"onnxcam {args.subcommand}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `onnxcam ... | head`: the reader has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a folder that can't be written, a full disk
        print(f"onnxcam {args.subcommand}: {_one_line(error)}", file=sys.stderr)
        return 2


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onnxcam",
        description="Make vision models predict and explain in one ONNX file, and run it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"onnxcam {__version__}")
    subparsers = parser.add_subparsers(dest="subcommand", metavar="COMMAND")
    # Only the subcommand that is called pays for its import.
    called = next((word for word in arguments if not word.startswith("-")), None)
    for name, (module_name, help_line) in SUBCOMMANDS.items():
        subparser = subparsers.add_parser(name, help=help_line, description=help_line)
        if name == called:
            module = importlib.import_module(module_name)
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
