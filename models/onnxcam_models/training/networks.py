"""The two shipped networks as PyTorch modules."""

from __future__ import annotations

import math

import torch
from torch import nn

from onnxcam_models.scenes import CLASSES


class DigitsInClutter(nn.Module):
    """Which digits are in a 96x96 grey scene? Seven convolutions, a class map, a soft maximum.

    Input `picture` float32 ``[N, 1, 96, 96]`` in 0..1; output logits ``[N, 10]``, one
    independent yes or no for every digit (sigmoid). The features see 36 pixels, about one
    digit, so a class can only be recognised where it is. The class maps ``[N, 10, 12, 12]`` are
    pooled by :class:`LogSumExp`; with a plain average, every place would have to vote for a
    digit that is in one place only.
    """

    # (output channels, kernel, stride) of every convolution. The strided ones have even kernels:
    # with those the centre of what a cell of the map sees is the centre of the 8x8 pixels that
    # the cell is drawn over; with 3x3 it would lie 3.5 pixels to the upper left of it.
    LAYERS = (
        (16, 3, 1),
        (24, 4, 2),
        (32, 3, 1),
        (48, 4, 2),
        (64, 3, 1),
        (64, 3, 1),
        (64, 2, 2),
    )

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = 1
        for width, kernel, stride in self.LAYERS:
            blocks.append(ConvBlock(channels, width, kernel, stride))
            channels = width
        self.features = nn.Sequential(*blocks)
        self.drop = nn.Dropout2d(0.1)
        self.class_map = nn.Conv2d(channels, CLASSES, 1)
        self.pool = LogSumExp(1.5)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Logits ``[N, 10]``."""
        pooled: torch.Tensor = self.pool(self.class_map(self.drop(self.features(picture))))
        return pooled


class ConvBlock(nn.Module):
    """Convolution, batch norm, ReLU; the picture shrinks by the stride and by nothing else."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        padding = (kernel - 1) // 2
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The activation ``[N, C, h, w]``."""
        activation: torch.Tensor = self.relu(self.norm(self.conv(x)))
        return activation


class LogSumExp(nn.Module):
    """Soft maximum over space: ``log(mean(exp(r x))) / r``, between average (r = 0) and maximum.

    Pinheiro and Collobert 2015, "From image-level to pixel-level labeling with convolutional
    networks", eq. 3. The maximum is subtracted first, which changes nothing but the range.
    """

    def __init__(self, r: float) -> None:
        super().__init__()
        self.r = r

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, h, w]`` to ``[N, C]``."""
        places = x.shape[-2] * x.shape[-1]
        x = x * self.r
        highest = x.amax(dim=(2, 3), keepdim=True)
        total = (x - highest).exp().sum(dim=(2, 3), keepdim=True)
        pooled: torch.Tensor = (total.log() + (highest - math.log(places))) * (1 / self.r)
        return pooled.flatten(1)


def mnist_style() -> nn.Sequential:
    """The network of the MNIST tutorials: two convolutions, two poolings, two dense layers.

    Input `picture` float32 ``[N, 1, 28, 28]`` in 0..1; output softmax probabilities
    ``[N, 10]``. For training, leave the softmax out: ``network[:-1]``.
    """
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 5 * 5, 32),
        nn.ReLU(),
        nn.Linear(32, CLASSES),
        nn.Softmax(dim=1),
    )


def fold_batch_norms(network: DigitsInClutter) -> DigitsInClutter:
    """Fold every batch norm into its convolution, in place; for inference only."""
    network.eval()
    for block in network.features:
        assert isinstance(block, ConvBlock)
        assert isinstance(block.norm, nn.BatchNorm2d)
        block.conv = nn.utils.fusion.fuse_conv_bn_eval(block.conv, block.norm)
        block.norm = nn.Identity()
    return network
