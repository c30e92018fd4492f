"""`onnxcam web`: a static site that explains pictures in the visitor's browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from onnxcam.errors import InputError
from onnxcam.pictures import open_picture
from onnxcam.web import runtime
from onnxcam.web.site import check_folder, site_files, write_site
from onnxcam.web.suitable import read_suitable

# What every browser decodes.
_SAMPLE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `onnxcam web`."""
    parser.add_argument(
        "model", metavar="FILE.onnx", type=Path, help="a file that 'onnxcam export' wrote"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="SITE",
        type=Path,
        required=True,
        help="the site's folder: new, empty, or an earlier site, which is replaced",
    )
    parser.add_argument("--title", help="what the page calls the model (default: the file's name)")
    parser.add_argument(
        "--sample", metavar="PICTURE", type=Path, help="a picture for visitors to try"
    )
    parser.add_argument(
        "--onnxruntime-web",
        metavar="DIR",
        type=Path,
        help=f"the unpacked npm package (default: npm fetches version {runtime.VERSION})",
    )


def run(args: argparse.Namespace) -> int:
    """Check the model, write the site, say how to serve it.

    Raises:
        OnnxcamError: the model does not suit, the folder holds something else, the sample is no
            picture, or a part of the site can't be had.
    """
    folder: Path = args.output
    check_folder(folder)
    model = read_suitable(args.model)
    sample = None if args.sample is None else _sample(args.sample)
    files = site_files(
        model,
        args.title or args.model.name.removesuffix(".onnx").removesuffix(".cam"),
        runtime.runtime_files(args.onnxruntime_web),
        sample,
    )
    write_site(folder, files)
    size = sum(map(len, files.values()))
    print(
        f"{folder}: {_megabytes(size)} (the model {_megabytes(len(model))}, "
        f"all else {_megabytes(size - len(model))})"
    )
    print("Any web server will do, for example")
    print(f"  python -m http.server -d {folder}")
    print("and then open http://localhost:8000")
    return 0


def _sample(path: Path) -> tuple[str, bytes]:
    suffix = path.suffix.lower()
    if suffix not in _SAMPLE_SUFFIXES:
        raise InputError(f"--sample '{path}': expected {', '.join(_SAMPLE_SUFFIXES)}")
    open_picture(path)
    return suffix, path.read_bytes()


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
