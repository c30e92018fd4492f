"""Grad-CAM as PyTorch users compute it: two programs by hand and three libraries.

Every row of :data:`PEERS` is a function ``(module, layer name) -> Peer``. A peer has a module of
its own, so that nobody's hooks run in another's forward pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

Maps = np.ndarray
# images [N, 3, H, W] and a class of each -> maps [N, h, w]; for `several` one image, K classes
Explain = Callable[[torch.Tensor, list[int]], Maps]


def identity(maps: Maps) -> Maps:
    return maps


def from_minimum(maps: Maps) -> Maps:
    """Each map over its own range, as torchcam scales them."""
    low = maps.min(axis=(1, 2), keepdims=True)
    high = maps.max(axis=(1, 2), keepdims=True)
    return (maps - low) / (high - low + 1e-8)


def at_input_size(maps: Maps, size: int = 224) -> Maps:
    """As pytorch-grad-cam: over its own range, enlarged to the input, over its own range again."""
    enlarged = [cv2.resize(each, (size, size)) for each in from_minimum(maps)]
    return from_minimum(np.stack(enlarged))


def paint_with_opencv(heatmap: Maps, pixels: np.ndarray) -> np.ndarray:
    """JET over a picture, 0.6 and 0.4, as the OpenCV tutorials do."""
    enlarged = cv2.resize(heatmap, (pixels.shape[1], pixels.shape[0]))
    colors = cv2.applyColorMap(np.uint8(255 * enlarged), cv2.COLORMAP_JET)
    return cv2.addWeighted(pixels, 0.6, cv2.cvtColor(colors, cv2.COLOR_BGR2RGB), 0.4, 0)


@dataclass(frozen=True)
class Peer:
    """A way to explain.

    `explain` is for a batch, `several` for K classes of one image, by name of the way;
    `convention` makes of our maps what this peer's should be; `paint` puts a map over a picture.
    `opencv_colors` says whether that has the colours of our default.
    """

    explain: Explain
    several: dict[str, Explain]
    convention: Callable[[Maps], Maps] = identity
    paint: Callable[[Maps, np.ndarray], np.ndarray] = paint_with_opencv
    opencv_colors: bool = True


def _scaled(maps: torch.Tensor) -> Maps:
    """ReLU, divided by the maximum."""
    positive = maps.detach().clamp(min=0)
    return (positive / positive.amax(dim=(1, 2), keepdim=True)).numpy()


def _weighted(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    return (gradient.mean(dim=(2, 3), keepdim=True) * activation).sum(dim=1)


def _chosen(scores: torch.Tensor, targets: list[int]) -> torch.Tensor:
    return scores[torch.arange(len(targets)), targets].sum()


def tutorial(module: torch.nn.Module, layer: str) -> Peer:
    """Forward and backward hooks and `score.backward()`, as most tutorials have it."""
    module = copy.deepcopy(module)
    kept: dict[str, torch.Tensor] = {}
    watched = module.get_submodule(layer)
    watched.register_forward_hook(lambda m, i, output: kept.update(activation=output.detach()))
    watched.register_full_backward_hook(lambda m, i, gradients: kept.update(gradient=gradients[0]))

    def explain(images: torch.Tensor, targets: list[int]) -> Maps:
        module.zero_grad()
        _chosen(module(images), targets).backward()
        return _scaled(_weighted(kept["activation"], kept["gradient"]))

    def several(image: torch.Tensor, targets: list[int]) -> Maps:
        scores, maps = module(image), []
        for target in targets:
            module.zero_grad()
            scores[0, target].backward(retain_graph=True)
            maps.append(_weighted(kept["activation"], kept["gradient"]))
        return _scaled(torch.cat(maps))

    return Peer(explain, {"one forward pass": several})


def lean(module: torch.nn.Module, layer: str) -> Peer:
    """Weights frozen, autograd only from the score to the layer: the least that PyTorch can do."""
    module = copy.deepcopy(module).requires_grad_(False)
    kept: list[torch.Tensor] = []

    def cut(m: object, i: object, output: torch.Tensor) -> torch.Tensor:
        kept[:] = [output.detach().requires_grad_()]
        return kept[0]

    module.get_submodule(layer).register_forward_hook(cut)

    def explain(images: torch.Tensor, targets: list[int]) -> Maps:
        (gradient,) = torch.autograd.grad(_chosen(module(images), targets), kept)
        return _scaled(_weighted(kept[0], gradient))

    def several(image: torch.Tensor, targets: list[int]) -> Maps:
        scores, maps = module(image), []
        for target in targets:
            (gradient,) = torch.autograd.grad(scores[0, target], kept, retain_graph=True)
            maps.append(_weighted(kept[0], gradient))
        return _scaled(torch.cat(maps))

    return Peer(explain, {"one forward pass": several})


def pytorch_grad_cam(module: torch.nn.Module, layer: str) -> Peer:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.image import show_cam_on_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    module = copy.deepcopy(module)
    cam = GradCAM(module, [module.get_submodule(layer)])

    def explain(images: torch.Tensor, targets: list[int]) -> Maps:
        return cam(images, [ClassifierOutputTarget(target) for target in targets])

    def call_each(image: torch.Tensor, targets: list[int]) -> Maps:
        return np.concatenate([explain(image, [target]) for target in targets])

    def copies(image: torch.Tensor, targets: list[int]) -> Maps:
        return explain(image.expand(len(targets), -1, -1, -1), targets)

    def paint(heatmap: Maps, pixels: np.ndarray) -> np.ndarray:
        enlarged = cv2.resize(heatmap, (pixels.shape[1], pixels.shape[0]))
        return show_cam_on_image(np.float32(pixels) / 255, enlarged, use_rgb=True)

    ways = {"a call each": call_each, "a batch of copies": copies}
    return Peer(explain, ways, at_input_size, paint, opencv_colors=False)


def torchcam(module: torch.nn.Module, layer: str) -> Peer:
    from PIL import Image
    from torchcam.methods import GradCAM
    from torchcam.utils import overlay_mask

    module = copy.deepcopy(module)
    cam = GradCAM(module, layer)

    def explain(images: torch.Tensor, targets: list[int]) -> Maps:
        return cam(list(targets), module(images))[0].numpy()

    def several(image: torch.Tensor, targets: list[int]) -> Maps:
        scores = module(image)
        maps = [cam([target], scores, retain_graph=True)[0].numpy() for target in targets]
        return np.concatenate(maps)

    def paint(heatmap: Maps, pixels: np.ndarray) -> np.ndarray:
        mask = Image.fromarray(heatmap)
        return np.asarray(overlay_mask(Image.fromarray(pixels), mask, alpha=0.5))

    return Peer(explain, {"one forward pass": several}, from_minimum, paint, opencv_colors=False)


def captum(module: torch.nn.Module, layer: str) -> Peer:
    from captum.attr import LayerGradCam

    module = copy.deepcopy(module)
    cam = LayerGradCam(module, module.get_submodule(layer))

    def explain(images: torch.Tensor, targets: list[int]) -> Maps:
        return _scaled(cam.attribute(images, list(targets), relu_attributions=True)[:, 0])

    def call_each(image: torch.Tensor, targets: list[int]) -> Maps:
        return np.concatenate([explain(image, [target]) for target in targets])

    def copies(image: torch.Tensor, targets: list[int]) -> Maps:
        return explain(image.expand(len(targets), -1, -1, -1), targets)

    return Peer(explain, {"a call each": call_each, "a batch of copies": copies})


# name -> (what makes it, the module it needs beside torch)
PEERS: dict[str, tuple[Callable[[torch.nn.Module, str], Peer], str | None]] = {
    "PyTorch, hooks and backward()": (tutorial, None),
    "PyTorch, frozen, autograd.grad": (lean, None),
    "pytorch-grad-cam": (pytorch_grad_cam, "pytorch_grad_cam"),
    "torchcam": (torchcam, "torchcam"),
    "captum": (captum, "captum"),
}


def make_peers(module: Any, layer: str) -> tuple[dict[str, Peer], dict[str, str]]:
    """The peers that are installed, and why the others are not there."""
    import importlib.util

    peers: dict[str, Peer] = {}
    skipped: dict[str, str] = {}
    for name, (make, needed) in PEERS.items():
        if needed is not None and importlib.util.find_spec(needed) is None:
            skipped[name] = "not installed"
            continue
        try:
            peers[name] = make(module, layer)
        except ImportError as error:  # one of its own dependencies is missing
            skipped[name] = f"does not import: {' '.join(str(error).split())}"
    return peers, skipped
