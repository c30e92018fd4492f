"""The shipped networks once more, in functional PyTorch, from nothing but their ONNX weights."""

from __future__ import annotations

import math

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

import onnxcam_models
from onnxcam_models import scenes

STRIDES = (1, 2, 1, 2, 1, 1, 2)


def weights_of(name: str) -> dict[str, torch.Tensor]:
    """The initialisers of a shipped file."""
    graph = onnx.load(onnxcam_models.path(name)).graph
    return {x.name: torch.tensor(onnx.numpy_helper.to_array(x)) for x in graph.initializer}


def clutter_features(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The explained layer of `digits-in-clutter`, [N, 64, 12, 12]."""
    for i, stride in enumerate(STRIDES):
        w, b = weights[f"features.{i}.conv.weight"], weights[f"features.{i}.conv.bias"]
        x = F.relu(F.conv2d(x, w, b, stride, padding=(w.shape[2] - 1) // 2))
    return x


def clutter_logits(weights: dict[str, torch.Tensor], features: torch.Tensor) -> torch.Tensor:
    """From the explained layer to the logits [N, 10], with torch's own logsumexp."""
    maps = F.conv2d(features, weights["class_map.weight"], weights["class_map.bias"]).flatten(2)
    return (torch.logsumexp(1.5 * maps, 2) - math.log(maps.shape[2])) / 1.5


def mnist_probabilities(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The whole of `mnist-style`, [N, 10]."""
    x = F.max_pool2d(F.relu(F.conv2d(x, weights["0.weight"], weights["0.bias"])), 2)
    x = F.max_pool2d(F.relu(F.conv2d(x, weights["3.weight"], weights["3.bias"])), 2)
    x = F.relu(F.linear(x.flatten(1), weights["7.weight"], weights["7.bias"]))
    return F.softmax(F.linear(x, weights["9.weight"], weights["9.bias"]), 1)


def held_out_scenes(count: int, seed: int) -> list[scenes.Scene]:
    """Fresh scenes of handwriting that no shipped network was trained on."""
    digits = load_digits()
    bitmaps, labels = scenes.split(digits.images, digits.target, held_out=True)
    rng = np.random.default_rng(seed)
    return [scenes.compose(rng, bitmaps, labels) for _ in range(count)]


def questions(made: list[scenes.Scene]) -> tuple[np.ndarray, np.ndarray, list[scenes.Scene]]:
    """One row for every digit of every scene: pictures float32 [M, 1, 96, 96], digits, scenes."""
    rows = [(scene, digit) for scene in made for digit in scene.digits]
    pictures = np.stack([scene.picture for scene, _ in rows])[:, None].astype(np.float32) / 255
    return pictures, np.array([digit for _, digit in rows], np.int64), [scene for scene, _ in rows]


def pointing(maps: torch.Tensor, digits: np.ndarray, asked: list[scenes.Scene]) -> float:
    """Share of maps [M, 12, 12] whose peak, after bilinear upsampling, lies in the digit's box."""
    large = F.interpolate(maps[:, None], (96, 96), mode="bilinear", align_corners=False)[:, 0]
    hits = []
    for heatmap, digit, scene in zip(large, digits, asked, strict=True):
        y, x = divmod(int(heatmap.argmax()), 96)
        (box,) = (box for box in scene.boxes if box.digit == digit)
        hits.append(box.left <= x < box.right and box.top <= y < box.bottom)
    return float(np.mean(hits))
