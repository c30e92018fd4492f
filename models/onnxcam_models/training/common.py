"""What both training scripts share: the digits, progress, and writing the ONNX file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import torch

from onnxcam.files import atomic
from onnxcam_models import scenes

OPSET = 18
IR_VERSION = 10
NAME_SCOPES = "pkg.torch.onnx.name_scopes"  # module paths, so that a layer has its PyTorch name


def digits(held_out: bool) -> tuple[scenes.Bitmaps, scenes.Labels]:
    """scikit-learn's bundled digits, the training or the held-out part (scenes.split)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise SystemExit("training needs scikit-learn: pip install scikit-learn") from error
    bunch = load_digits()
    return scenes.split(bunch.images, bunch.target, held_out)


def progress(text: str, end: bool = False) -> None:
    """Show one line that overwrites the last, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="\n" if end else "", file=sys.stderr, flush=True)


def write_onnx(network: torch.nn.Module, example: torch.Tensor, output: str, path: Path) -> None:
    """Export with a dynamic batch, opset 18 and IR 10, check, and replace `path` atomically.

    The input is called `picture`. What is written is the plain network, without a contract.
    """
    network.eval()
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        external_data=False,
        opset_version=OPSET,
        input_names=["picture"],
        output_names=[output],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    model.ir_version = IR_VERSION
    for node in model.graph.node:  # stack traces hold the paths of the machine that trained
        kept = [entry for entry in node.metadata_props if entry.key == NAME_SCOPES]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    onnx.checker.check_model(model, full_check=True)
    write_atomically(path, model.SerializeToString())


def write_atomically(path: Path, data: bytes) -> None:
    """Write all or nothing, making the folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as stream:
        stream.write(data)


def stack(
    rng: np.random.Generator, count: int, bitmaps: scenes.Bitmaps, labels: scenes.Labels
) -> tuple[torch.Tensor, torch.Tensor, list[scenes.Scene]]:
    """`count` fresh scenes: pictures float32 ``[N, 1, 96, 96]`` in 0..1, targets ``[N, 10]``."""
    made = [scenes.compose(rng, bitmaps, labels) for _ in range(count)]
    pictures = torch.from_numpy(np.stack([scene.picture for scene in made])[:, None])
    targets = torch.from_numpy(np.stack([scene.target for scene in made]))
    return pictures.float() / 255, targets, made
