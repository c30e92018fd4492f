"""Train `digits-in-clutter` and write its plain ONNX file.

    python -m onnxcam_models.training.digits_in_clutter [-o FILE.onnx] [--scenes 30000]

One pass over freshly composed scenes (nothing is seen twice), then the figures on held-out
handwriting: mean average precision and the pointing game of Grad-CAM at the last feature layer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from onnxcam_models import scenes
from onnxcam_models.training.common import digits, progress, stack, write_onnx
from onnxcam_models.training.networks import DigitsInClutter, fold_batch_norms

SEED = 1
HELD_OUT_SEED = 1_000
BATCH = 64
LEARNING_RATE = 4e-3


def train(count: int, seed: int = SEED) -> DigitsInClutter:
    """One epoch over `count` fresh scenes of the training handwriting."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    bitmaps, labels = digits(held_out=False)
    network = DigitsInClutter()
    _lay_out(network, torch.channels_last)  # 1.3 times as fast
    steps = max(2, count // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.15
    )
    loss_of = nn.BCEWithLogitsLoss()
    average = 0.7
    for step in range(steps):
        pictures, targets, _ = stack(rng, BATCH, bitmaps, labels)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        loss = loss_of(network(pictures), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average += 0.02 * (loss.item() - average)
        progress(f"scene {(step + 1) * BATCH} of {steps * BATCH}, loss {average:.3f}")
    progress(f"trained, loss {average:.3f}", end=True)
    return network


def _lay_out(network: nn.Module, memory_format: torch.memory_format) -> None:
    network.to(memory_format=memory_format)  # type: ignore[call-overload]  # its stub forgets it


def mean_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mean over classes of the average precision, scores and 0/1 targets ``[N, 10]``."""
    values = []
    for score, target in zip(scores.T, targets.T, strict=True):
        ranked = target[np.argsort(-score, kind="stable")]
        precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
        values.append(float((precision * ranked).sum() / ranked.sum()))
    return float(np.mean(values))


def gradcam(network: DigitsInClutter, pictures: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Grad-CAM (Selvaraju et al. 2017, eqs. 1 and 2) by autograd at the last feature layer,
    upsampled bilinearly: ``[N, 96, 96]`` of pictures ``[N, 1, 96, 96]`` and classes ``[N]``."""
    activation = network.features(pictures)
    score = network.pool(network.class_map(activation)).gather(1, target[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, activation)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    heatmap = (weights * activation).sum(1, keepdim=True).relu()
    size = pictures.shape[-2:]
    return nn.functional.interpolate(heatmap, size, mode="bilinear", align_corners=False)[:, 0]


def evaluate(network: DigitsInClutter, count: int, seed: int = HELD_OUT_SEED) -> dict[str, float]:
    """Figures over `count` fresh scenes of held-out handwriting."""
    network.eval()
    rng = np.random.default_rng(seed)
    bitmaps, labels = digits(held_out=True)
    scores: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    hits: list[bool] = []
    while len(scores) * BATCH < count:
        pictures, target, made = stack(rng, BATCH, bitmaps, labels)
        with torch.no_grad():
            scores.append(network(pictures).numpy())
        targets.append(target.numpy())
        pairs = [(i, digit) for i, scene in enumerate(made) for digit in scene.digits]
        index = torch.tensor([i for i, _ in pairs])
        digit = torch.tensor([d for _, d in pairs])
        maps = gradcam(network, pictures[index], digit).detach().numpy()
        hits += [made[i].hit(d, heatmap) for (i, d), heatmap in zip(pairs, maps, strict=True)]
    return {
        "mean average precision": mean_average_precision(
            np.concatenate(scores), np.concatenate(targets)
        ),
        "exact scenes": float(
            np.mean(((np.concatenate(scores) > 0) == np.concatenate(targets)).all(1))
        ),
        "pointing": float(np.mean(hits)),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Train, print the figures, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(scenes.__file__).parent / "data" / "digits-in-clutter.onnx"
    parser.add_argument("-o", "--output", type=Path, default=default)
    parser.add_argument("--scenes", type=int, default=30_000)
    parser.add_argument("--held-out-scenes", type=int, default=1024, help="for the figures")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    network = train(args.scenes)
    seconds = time.perf_counter() - start
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{parameters} parameters, {args.scenes} scenes, seed {SEED}, {seconds:.0f} s")
    _lay_out(fold_batch_norms(network), torch.contiguous_format)
    for name, value in evaluate(network, args.held_out_scenes).items():
        print(f"{name}: {value:.4f} ({args.held_out_scenes} scenes of held-out handwriting)")
    write_onnx(network, torch.zeros(2, 1, scenes.SIZE, scenes.SIZE), "logits", args.output)
    print(f"wrote {args.output} ({args.output.stat().st_size / 1e6:.2f} MB)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
