"""Train `mnist-style`, the network of the MNIST tutorials, and write its plain ONNX file.

    python -m onnxcam_models.training.mnist_style [-o FILE.onnx] [--epochs 60]

The digits are scikit-learn's, enlarged to 20x20 and laid into 28x28 with small shifts, as MNIST
lays its own out. `onnxcam demo` compares what it looks at in a 1, a 7 and a 9.
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
from onnxcam_models.training.common import digits, progress, write_onnx
from onnxcam_models.training.networks import mnist_style

SEED = 1
BATCH = 64
SHIFT = 3  # pixels that a training digit moves at most, each way


def tensor(bitmaps: scenes.Bitmaps, labels: scenes.Labels) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures float32 ``[N, 1, 28, 28]`` in 0..1, as the package lays them out, and labels."""
    pictures = np.stack([scenes.mnist_style(bitmap) for bitmap in bitmaps])
    return torch.from_numpy(pictures)[:, None].float() / 255, torch.from_numpy(labels)


def train(epochs: int, seed: int = SEED) -> nn.Sequential:
    """Adam with a falling learning rate, every digit shifted anew in every epoch."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    pictures, labels = tensor(*digits(held_out=False))
    network = mnist_style()
    logits = network[:-1]
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(epochs):
        order = rng.permutation(len(pictures))
        for batch in (order[i : i + BATCH] for i in range(0, len(order), BATCH)):
            shifted = torch.stack(
                [
                    torch.roll(pictures[i], tuple(rng.integers(-SHIFT, SHIFT + 1, 2)), (1, 2))
                    for i in batch
                ]
            )
            loss = loss_of(logits(shifted), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        progress(f"epoch {epoch + 1} of {epochs}, loss {loss.item():.3f}")
    progress("trained", end=True)
    return network


def accuracy(network: nn.Module, held_out: bool) -> float:
    """Share of digits whose highest score is right, unshifted."""
    pictures, labels = tensor(*digits(held_out))
    with torch.no_grad():
        return float((network.eval()(pictures).argmax(1) == labels).float().mean())


def main(argv: Sequence[str] | None = None) -> int:
    """Train, print the figures, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(scenes.__file__).parent / "data" / "mnist-style.onnx"
    parser.add_argument("-o", "--output", type=Path, default=default)
    parser.add_argument("--epochs", type=int, default=60)
    args = parser.parse_args(argv)
    start = time.perf_counter()
    network = train(args.epochs)
    seconds = time.perf_counter() - start
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{parameters} parameters, {args.epochs} epochs, seed {SEED}, {seconds:.0f} s")
    print(f"accuracy: {accuracy(network, False):.4f} on the handwriting it was trained on")
    print(f"accuracy: {accuracy(network, True):.4f} on held-out handwriting")
    write_onnx(network, torch.zeros(2, 1, 28, 28), "probabilities", args.output)
    print(f"wrote {args.output} ({args.output.stat().st_size / 1e6:.2f} MB)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
