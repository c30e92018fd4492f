from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import PictureError
from onnxcam.pictures import is_batch, open_picture

RANDOM = np.random.default_rng(1)
RGB = RANDOM.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def encoded(image, kind="PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_every_source_of_the_same_picture(tmp_path):
    path = tmp_path / "a.png"
    image = Image.fromarray(RGB)
    image.save(path)
    sources = [path, str(path), path.read_bytes(), bytearray(path.read_bytes()), image, RGB]
    for source in sources:
        found = open_picture(source)
        np.testing.assert_array_equal(found, RGB)
        assert found.flags.c_contiguous
    np.testing.assert_array_equal(open_picture(RGB[:, ::-1]), RGB[:, ::-1])


def test_greyscale():
    grey = RGB[..., 0]
    for source in (grey, grey[..., None], Image.fromarray(grey), encoded(Image.fromarray(grey))):
        np.testing.assert_array_equal(open_picture(source), np.dstack([grey] * 3))
    bilevel = Image.fromarray((grey > 99).astype(np.uint8) * 255).convert("1")
    assert set(np.unique(open_picture(encoded(bilevel)))) == {0, 255}


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled(kind):
    values = np.array([[0, 128, 129, 257], [32768, 65535, 65407, 65406]], np.uint16)
    found = open_picture(encoded(Image.fromarray(values), kind))
    np.testing.assert_array_equal(found[..., 1], np.rint(values / 257))


def test_big_endian_16_bits():
    values = np.array([[0, 257, 65535]], np.uint16)
    image = Image.frombytes("I;16B", (3, 1), values.astype(">u2").tobytes())
    assert open_picture(image)[0, :, 0].tolist() == [0, 1, 255]


def test_palette():
    image = Image.fromarray(RGB).quantize(8)
    np.testing.assert_array_equal(open_picture(encoded(image)), np.asarray(image.convert("RGB")))


def test_cmyk():
    image = Image.new("CMYK", (3, 2), (0, 255, 255, 0))
    assert open_picture(encoded(image, "TIFF"))[0, 0].tolist() == [255, 0, 0]


def test_transparency_shows_white():
    pixels = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    pixels[0, :, 3] = 0
    pixels[1, :, 3] = 51
    for source in (pixels, Image.fromarray(pixels), encoded(Image.fromarray(pixels))):
        found = open_picture(source).astype(int)
        assert (found[0] == 255).all()
        assert np.abs(found[1] - (0.2 * RGB[1] + 0.8 * 255)).max() <= 1
        np.testing.assert_array_equal(found[2:], RGB[2:])


def test_transparent_palette_and_grey():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    found = open_picture(encoded(image, transparency=1))
    assert found.tolist() == [[[10, 20, 30], [255, 255, 255]]]
    assert open_picture(Image.new("LA", (1, 1), (7, 0))).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (1, lambda x: x),
        (3, lambda x: np.rot90(x, 2)),
        (6, lambda x: np.rot90(x, -1)),
        (8, np.rot90),
        (2, np.fliplr),
        (4, np.flipud),
    ],
)
def test_exif_orientation(orientation, undo):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(RGB), exif=exif)
    np.testing.assert_array_equal(open_picture(data), undo(RGB))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_malformed_exif_is_ignored():
    data = encoded(Image.fromarray(RGB), exif=b"Exif\0\0MM\0*\xff\xff\xff\xffgarbage")
    np.testing.assert_array_equal(open_picture(data), RGB)


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_first_frame_of_an_animation(kind):
    frames = [Image.new("RGB", (4, 3), color) for color in ("red", "blue", "green")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert open_picture(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_truncated(tmp_path, kind):
    noise = Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    path = tmp_path / "half.img"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(PictureError, match=r"half\.img"):
        open_picture(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "file is empty"),
        (b"hello, this is text", "not a picture of a known format"),
        (b"\x89PNG\r\n\x1a\n", "a.png"),
    ],
)
def test_not_a_picture(tmp_path, content, message):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(PictureError, match=message):
        open_picture(path)


def test_missing_and_folder(tmp_path):
    with pytest.raises(PictureError, match="no such file"):
        open_picture(tmp_path / "none.png")
    with pytest.raises(PictureError, match="is a folder"):
        open_picture(tmp_path)


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(name + data)
        return len(data).to_bytes(4, "big") + name + data + crc.to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def test_decompression_bomb():
    with pytest.raises(PictureError, match="MAX_IMAGE_PIXELS"):
        open_picture(png_header(100_000, 100_000))


def test_zero_sized():
    with pytest.raises(PictureError):
        open_picture(png_header(0, 5))
    with pytest.raises(PictureError, match="zero-sized, 0x5"):
        open_picture(Image.new("RGB", (0, 5)))
    with pytest.raises(PictureError, match=r"empty, \[0, 5, 3\]"):
        open_picture(np.zeros((0, 5, 3), np.uint8))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (RGB.astype(np.float32) / 255, "uint8.*float32"),
        (RGB.astype(np.uint16), "uint16"),
        (RGB.transpose(2, 0, 1), r"\[3, 5, 7\]"),
        (np.zeros((4, 4, 2), np.uint8), r"\[4, 4, 2\]"),
        (np.zeros(4, np.uint8), r"\[4\]"),
        (Image.new("F", (2, 2)), "floating-point"),
        (3, "got int"),
        (None, "got NoneType"),
    ],
)
def test_wrong_arrays(source, message):
    with pytest.raises(PictureError, match=message):
        open_picture(source)


def test_32_bit_values_beyond_16():
    with pytest.raises(PictureError, match="16 bits, found 0 to 70000"):
        open_picture(Image.fromarray(np.array([[0, 70000]], np.int32)))


def test_is_batch():
    assert is_batch([RGB])
    assert is_batch((RGB,))
    assert is_batch(RGB[None])
    assert not any(map(is_batch, (RGB, "a.png", b"png", Image.fromarray(RGB))))
