"""The example in C, built and run, against Python byte for byte."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers_examples import library_folder
from helpers_native import run
from onnxcam import overlay

EXAMPLES = Path(__file__).parents[2] / "examples"
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror"]


@pytest.fixture(scope="module")
def c_example(tmp_path_factory):
    """A function that builds the C example with more flags; the program's path."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    folder, made = library_folder(tmp_path_factory), tmp_path_factory.mktemp("c")
    programs = {}

    def build(*flags):
        if flags not in programs:
            program = made / f"overlay{len(programs)}"
            sources = [EXAMPLES / "c" / f"{name}.c" for name in ("overlay", "picture", "message")]
            command = ["gcc", "-g", *WARNINGS, *flags, f"-I{folder}", *sources]
            run([*command, folder / "libonnxcam.so", f"-Wl,-rpath,{folder}", "-o", program])
            programs[flags] = program
        return programs[flags]

    return build


def cases(folder, height, width, rows, columns):
    """A picture and a map as files, and the overlay that Python makes of them."""
    random = np.random.default_rng(height * width)
    picture = random.integers(0, 256, (height, width, 3), np.uint8)
    values = random.random((rows, columns), np.float32)
    Image.fromarray(picture).save(folder / "picture.ppm")
    (folder / "map.f32").write_bytes(values.tobytes())
    names = [folder / "picture.ppm", folder / "map.f32", f"{columns}x{rows}", folder / "out.ppm"]
    return names, overlay(values, picture)


SIZES = [(1, 1, 1, 1), (13, 31, 7, 5), (224, 224, 7, 7), (65, 640, 14, 14)]


@pytest.mark.parametrize("size", SIZES)
def test_c(c_example, tmp_path, size):
    names, expected = cases(tmp_path, *size)
    run([c_example(), *names])
    np.testing.assert_array_equal(np.asarray(Image.open(names[-1])), expected)


def test_c_makes_up_a_map(c_example, tmp_path):
    names, _ = cases(tmp_path, 20, 30, 4, 5)
    names[1] = "-"
    run([c_example(), *names])
    values = np.broadcast_to(np.arange(5, dtype=np.float32) / np.float32(5), (4, 5))
    expected = overlay(values, Image.open(names[0]))
    np.testing.assert_array_equal(np.asarray(Image.open(names[-1])), expected)


def bad_arguments(folder):
    """Arguments that have to be refused, and a word of the reason."""
    names, _ = cases(folder, 9, 11, 3, 4)
    picture, values, size, out = names
    (folder / "nan.f32").write_bytes(np.full(12, np.nan, np.float32).tobytes())
    (folder / "infinite.f32").write_bytes(np.full(12, np.inf, np.float32).tobytes())
    (folder / "short.f32").write_bytes(b"\0" * 47)
    (folder / "long.f32").write_bytes(b"\0" * 49)
    whole = picture.read_bytes()
    (folder / "short.ppm").write_bytes(whole[:-1])
    (folder / "zero.ppm").write_bytes(b"P6\n0 9\n255\n")
    (folder / "empty.ppm").write_bytes(b"")
    (folder / "gray.ppm").write_bytes(b"P5\n1 1\n255\n\0")
    yield (picture, folder / "nan.f32", size, out), "NaN"
    yield (picture, folder / "infinite.f32", size, out), "NaN or infinity"
    yield (picture, folder / "short.f32", size, out), "size"
    yield (picture, folder / "long.f32", size, out), "size"
    for name in ("short", "zero", "empty", "gray"):
        yield (folder / f"{name}.ppm", values, size, out), "PPM"
    yield (folder / "absent.ppm", values, size, out), "absent"
    yield (picture, values, "0x0", out), ""
    yield (picture, values, "-1x-12", out), ""
    yield (picture, values, "nonsense", out), ""
    yield (picture, values, size), "expected"


def check_refusals(command, folder):
    for arguments, word in bad_arguments(folder):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2, (arguments, done.stderr)
        assert done.stderr.startswith("overlay: ")
        assert word in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not (folder / "out.ppm").exists()


def test_c_refuses_bad_input(c_example, tmp_path):
    check_refusals([c_example()], tmp_path)


def test_c_under_address_sanitizer(c_example, tmp_path):
    program = c_example("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    names, expected = cases(tmp_path, 37, 53, 7, 7)
    run([program, *names])
    np.testing.assert_array_equal(np.asarray(Image.open(names[-1])), expected)
    names[-1].unlink()
    check_refusals([program], tmp_path)


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_c_under_valgrind(c_example, tmp_path):
    command = ["valgrind", "-q", "--leak-check=full", "--error-exitcode=9", c_example()]
    names, expected = cases(tmp_path, 37, 53, 7, 7)
    run([*command, *names])
    np.testing.assert_array_equal(np.asarray(Image.open(names[-1])), expected)
    names[-1].unlink()
    check_refusals(command, tmp_path)
