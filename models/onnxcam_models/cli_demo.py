"""`onnxcam demo`: from nothing to a picture, on the two small networks that ship."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnxcam.errors import InputError, MissingExtraError
from onnxcam_models import Network, network, scenes

if TYPE_CHECKING:
    from onnxcam import Engine

SEED = 48  # a scene of four digits
COMPARED = (1, 7, 9)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `onnxcam demo`."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("onnxcam-demo"),
        metavar="DIR",
        help="folder for the files, made where it is missing (default: ./onnxcam-demo)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=SEED,
        help=f"which scene to compose, any number from 0 on (default: {SEED})",
    )


def run(args: argparse.Namespace) -> int:
    """Export, explain, draw; returns 0.

    Raises:
        MissingExtraError: onnx or onnx-ir is not installed.
        InputError: a negative seed.
        OSError: the folder can't be made or written.
    """
    if args.seed < 0:
        raise InputError(f"--seed: expected a whole number from 0 on, got {args.seed}")
    folder: Path = args.output
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    rng = np.random.default_rng(args.seed)
    digit = _clutter(folder, rng)
    print()
    _compare(folder, rng)
    print(f"\nDone in {time.perf_counter() - start:.1f} s; everything is in {folder}.")
    model, scene = folder / "digits-in-clutter.cam.onnx", folder / "scene.png"
    print(
        "The same file with another method:\n"
        f"  onnxcam explain {model} {scene} --target {digit} --method layercam --figure"
        f" -o {folder / 'layercam.png'}\n"
        "Your own model, in two commands (other input sizes, --layer, --labels: see --help):\n"
        "  onnxcam export onnx your-model.onnx --preprocess imagenet -o your-model.cam.onnx\n"
        "  onnxcam explain your-model.cam.onnx your-photo.jpg --figure -o explained.png"
    )
    return 0


def _clutter(folder: Path, rng: np.random.Generator) -> int:
    """Explain every digit of one scene, and one that is not there; returns one that is."""
    from onnxcam_models import drawing

    shipped = network("digits-in-clutter")
    print(f"{shipped.name}: {shipped.description}")
    engine = _engine(shipped, folder)
    scene = scenes.compose(rng, *scenes.unseen_handwriting())
    drawing.save(scene.picture, folder / "scene.png")
    absent = int(rng.choice([d for d in range(scenes.CLASSES) if d not in scene.digits]))
    tiles = [drawing.tile(scene.picture, "the scene", boxes=scene.boxes)]
    hits = 0
    for step, digit in enumerate((*scene.digits, absent)):
        with _timed(f"explain digit {digit}" + (" (the first call)" if step == 0 else "")):
            result = engine.explain(scene.picture, target=digit)
        there = digit in scene.digits
        hits += there and scene.hit(digit, result.heatmap)
        reason = result.diagnosis.reason
        title = f"{digit}: {_percent(result.probability)}" + ("" if there else ", not there")
        own = [box for box in scene.boxes if box.digit == digit]
        tiles.append(
            drawing.tile(result.overlay(), title + (", empty map" if reason else ""), boxes=own)
        )
        if reason:
            where = "is in the scene" if there else "is not in the scene"
            print(f"  {digit} {where}: its map is empty ({reason})")
    figure = folder / "digits-in-clutter.png"
    drawing.save(drawing.grid([tiles]), figure)
    print(f"  the map peaks inside the digit's box for {hits} of {len(scene.digits)} digits there")
    print(f"  look at {figure}")
    return scene.digits[0]


def _compare(folder: Path, rng: np.random.Generator) -> None:
    """What speaks for a 1, a 7 and a 9 in a handwritten 1, 7 and 9?"""
    from onnxcam_models import drawing

    shipped = network("mnist-style")
    print(f"{shipped.name}: {shipped.description}")
    engine = _engine(shipped, folder)
    bitmaps, labels = scenes.unseen_handwriting()
    rows = []
    with _timed(f"explain {len(COMPARED) ** 2} maps"):
        for digit in COMPARED:
            picture = scenes.mnist_style(bitmaps[rng.choice(np.flatnonzero(labels == digit))])
            row = [drawing.tile(picture, f"a handwritten {digit}")]
            for target in COMPARED:
                result = engine.explain(picture, target=target)
                title = f"as a {target}: {_percent(result.probability)}"
                row.append(drawing.tile(result.overlay(), title))
            rows.append(row)
    figure = folder / "one-seven-nine.png"
    drawing.save(drawing.grid(rows), figure)
    print(f"  look at {figure}")


def _engine(shipped: Network, folder: Path) -> Engine:
    """Export a shipped network into `folder` and start an engine on the file."""
    file = folder / f"{shipped.name}.cam.onnx"
    with _timed("load the exporter"):
        from_onnx = _exporter()
    with _timed("export"):
        from_onnx(
            shipped.path,
            layer=shipped.layer,
            score="logit",
            preprocess=shipped.preprocess,
            labels=shipped.labels,
            activation=shipped.activation,
            output=file,
        )
    with _timed("start the engine"):
        from onnxcam import Engine

        engine = Engine(file)
    print(f"  wrote {file} ({file.stat().st_size / 1e6:.2f} MB, explains {shipped.layer!r})")
    return engine


def _exporter() -> Callable[..., object]:
    try:
        from onnxcam_export import from_onnx
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("onnxcam"):
            raise
        raise MissingExtraError(
            f"the demo exports a model, which needs the module {error.name!r}: "
            "pip install 'onnxcam[export]'"
        ) from error
    exporter: Callable[..., object] = from_onnx
    return exporter


@contextmanager
def _timed(what: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    amount = f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds * 1000:.1f} ms"
    print(f"  {what:<34}{amount:>10}")


def _percent(probability: float | None) -> str:
    if probability is None:
        return "?"
    if 0.999 <= probability < 1 or 0 < probability < 0.001:
        return "> 99.9 %" if probability > 0.5 else "< 0.1 %"
    return f"{probability * 100:.1f} %"
