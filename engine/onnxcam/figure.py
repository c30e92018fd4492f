"""Picture and overlay side by side, with a title, as the tutorials show it."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from onnxcam.pictures import Pixels

_SMALLEST, _LARGEST = 224, 1024  # longer side of a panel, in pixels
_GAP = 8
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


def side_by_side(picture: Pixels, painted: Pixels, title: str) -> Image.Image:
    """A figure of two pictures [H, W, 3] of one size.

    Small pictures are enlarged by a whole factor so that the title can be read, large ones
    shrunk to a longer side of 1024.
    """
    panels = [_scaled(Image.fromarray(pixels)) for pixels in (picture, painted)]
    width, height = panels[0].size
    total = 2 * width + 3 * _GAP
    font = ImageFont.load_default(size=max(14, min(32, total // 32)))
    title = _shortened(title, font, total - 2 * _GAP)
    _, _, _, text_height = font.getbbox("Ag")
    band = int(text_height) + 2 * _GAP
    figure = Image.new("RGB", (total, band + height + _GAP), _WHITE)
    draw = ImageDraw.Draw(figure)
    draw.text(((total - font.getlength(title)) / 2, _GAP), title, fill=_BLACK, font=font)
    for i, panel in enumerate(panels):
        figure.paste(panel, (_GAP + i * (width + _GAP), band))
    return figure


def _scaled(image: Image.Image) -> Image.Image:
    longer = max(image.size)
    if longer < _SMALLEST:
        factor = -(-_SMALLEST // longer)
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    if longer > _LARGEST:
        size = [max(1, round(side * _LARGEST / longer)) for side in image.size]
        return image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    return image


def _shortened(title: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    if font.getlength(title) <= width:
        return title
    while title and font.getlength(title + "...") > width:
        title = title[:-1]
    return title.rstrip() + "..."
