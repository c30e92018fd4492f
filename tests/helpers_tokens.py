"""A small vision transformer, and files of it as torch's older exporter makes them."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, c = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, t, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) / (c // self.heads) ** 0.5).softmax(-1)
        x = x + self.proj((weights @ v).transpose(1, 2).reshape(n, t, c))
        return x + self.mlp(self.norm2(x))


class SmallViT(nn.Module):
    """Patches of 4x4; `prefix` class and register tokens; the head reads `head`.

    `head` is `token` (the first one) or `mean` (of those on the grid).
    """

    def __init__(
        self, size: tuple[int, int] = (16, 24), prefix: int = 1, head: str = "token", depth: int = 2
    ) -> None:
        super().__init__()
        width = 12
        self.grid = (size[0] // 4, size[1] // 4)
        self.prefix, self.head_reads = prefix, head
        self.patch_embed = nn.Conv2d(3, width, 4, 4)
        self.extra = nn.Parameter(torch.randn(1, prefix, width))
        self.pos_embed = nn.Parameter(torch.randn(1, prefix + self.grid[0] * self.grid[1], width))
        self.blocks = nn.ModuleList([Block(width, 3) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        if self.prefix:
            x = torch.cat([self.extra.expand(x.shape[0], -1, -1), x], 1)
        x = x + self.pos_embed
        for block in self.blocks:
            x = block(x)
        if self.head_reads == "token":
            return self.head(self.norm(x)[:, 0])
        return self.head(self.norm(x[:, self.prefix :].mean(1)))


def older_export(module: nn.Module, x: torch.Tensor, dynamic: bool = True) -> onnx.ModelProto:
    """A file as torch.onnx wrote it before dynamo: no scopes, nodes named by module paths."""
    buffer = io.BytesIO()
    axes = {"x": {0: "batch"}, "scores": {0: "batch"}} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (x,),
            buffer,
            dynamo=False,
            opset_version=18,
            input_names=["x"],
            output_names=["scores"],
            dynamic_axes=axes,
        )
    return onnx.load_model_from_string(buffer.getvalue())


def autograd(
    module: nn.Module, layer: str, x: torch.Tensor, targets: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """What a module returned, and the gradient of the chosen scores by it."""
    kept: list[torch.Tensor] = []

    def keep(_: nn.Module, __: object, output: torch.Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    handle = module.get_submodule(layer).register_forward_hook(keep)
    try:
        scores = module.eval()(x)
    finally:
        handle.remove()
    scores[range(len(targets)), targets].sum().backward()
    return kept[0].detach().numpy(), kept[0].grad.numpy()


def on_grid(tokens: np.ndarray, prefix: int, grid: tuple[int, int]) -> np.ndarray:
    """[N, T, C] as [N, C, h, w], one pixel at a time."""
    n, _, c = tokens.shape
    result = np.empty((n, c, *grid), tokens.dtype)
    for row in range(grid[0]):
        for column in range(grid[1]):
            result[:, :, row, column] = tokens[:, prefix + row * grid[1] + column]
    return result
