"""Small figures with Pillow: titled tiles in rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from onnxcam.files import atomic
from onnxcam_models.scenes import Box

SIDE = 288  # pixels of a tile's picture: 3 times a scene
TITLE = 30
GAP = 16
INK = (32, 32, 32)
PAPER = (255, 255, 255)
BOX_INK = (255, 255, 255)


def tile(picture: npt.NDArray[np.uint8], title: str, boxes: Iterable[Box] = ()) -> Image.Image:
    """A picture, uint8 ``[H, W]`` or ``[H, W, 3]``, enlarged under a title, with boxes."""
    height, width = picture.shape[:2]
    factor = SIDE / max(height, width)
    enlarged = (
        Image.fromarray(picture).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    )
    draw = ImageDraw.Draw(enlarged)
    font = ImageFont.load_default(14)
    for box in boxes:
        edges = [round(edge * factor) for edge in (box.left, box.top, box.right, box.bottom)]
        edges[2:] = [edge - 1 for edge in edges[2:]]
        draw.rectangle(edges, outline=BOX_INK, width=2)
        above = edges[1] >= 18
        place = (edges[0] + 1, edges[1] - 2) if above else (edges[0] + 1, edges[3] + 1)
        draw.text(place, str(box.digit), BOX_INK, font, anchor="lb" if above else "lt")
    whole = Image.new("RGB", (SIDE, TITLE + SIDE), PAPER)
    whole.paste(enlarged, (0, TITLE))
    ImageDraw.Draw(whole).text((0, TITLE // 2), title, INK, ImageFont.load_default(18), anchor="lm")
    return whole


def grid(rows: Sequence[Sequence[Image.Image]]) -> npt.NDArray[np.uint8]:
    """Tiles in rows on white, uint8 ``[H, W, 3]``."""
    columns = max(len(row) for row in rows)
    cell_width, cell_height = SIDE + GAP, TITLE + SIDE + GAP
    sheet = Image.new("RGB", (columns * cell_width + GAP, len(rows) * cell_height + GAP), PAPER)
    for y, row in enumerate(rows):
        for x, one in enumerate(row):
            sheet.paste(one, (GAP + x * cell_width, GAP // 2 + y * cell_height))
    return np.asarray(sheet)


def save(picture: npt.NDArray[np.uint8], file: Path) -> None:
    """Write a PNG, whole or not at all."""
    with atomic(file) as stream:
        Image.fromarray(picture).save(stream, "PNG")
