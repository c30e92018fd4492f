"""The examples in Rust, Java, Go and C#, built as their pages in docs/ say, against the engine."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from helpers_examples import EXAMPLES, case, check_refused, library_folder, onnxruntime_library
from helpers_explaining import HandMade
from helpers_native import run
from onnxcam import Engine, overlay
from onnxcam.pictures import open_picture


@dataclass(frozen=True)
class Program:
    """How a program is called, and what its environment has to say."""

    command: list[str | Path]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def options(self) -> dict:
        return {"env": os.environ | self.environment}


def need(*programs: str) -> None:
    for name in programs:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")


def rust(folder: Path, library: Path, runtime: Path) -> Program:
    need("rustc")
    found = re.match(r"rustc 1\.(\d+)", run(["rustc", "--version"]).decode())
    if found and int(found[1]) < 77:
        pytest.skip("this rustc has no C string literals, needed is 1.77")
    source, program = EXAMPLES / "rust" / "explain.rs", folder / "explain"
    where = ["-L", library, "-C", f"link-arg=-Wl,-rpath,{library}"]
    run(["rustc", "--edition", "2021", "-D", "warnings", source, *where, "-o", program])
    return Program([program], {"ONNXRUNTIME_LIBRARY": str(runtime)})


def java(folder: Path, library: Path, runtime: Path) -> Program:
    need("javac", "java")
    module = "jdk.incubator.foreign"
    if f"{module}@17" not in run(["java", "--list-modules"]).decode():
        pytest.skip("this is not Java 17: its foreign functions are others")
    run(["javac", "--add-modules", module, "-d", folder, EXAMPLES / "java" / "Explain.java"])
    options = ["--add-modules", module, "--enable-native-access=ALL-UNNAMED", "-cp", folder]
    environment = {"ONNXRUNTIME_LIBRARY": str(runtime)}
    environment["ONNXCAM_LIBRARY"] = str(library / "libonnxcam.so")
    return Program(["java", "-Xshare:auto", *options, "Explain"], environment)


def go(folder: Path, library: Path, runtime: Path) -> Program:
    need("go", "gcc")
    environment = os.environ | {"CGO_ENABLED": "1", "CGO_CFLAGS": f"-I{library}"}
    environment |= {"CGO_LDFLAGS": f"-L{library} -Wl,-rpath,{library}", "GOFLAGS": "-mod=mod"}
    environment |= {"GOCACHE": str(folder / "cache")}
    program = folder / "explain"
    run(["go", "build", "-o", program, EXAMPLES / "go" / "explain.go"], env=environment)
    return Program([program], {"ONNXRUNTIME_LIBRARY": str(runtime)})


def csharp(folder: Path, library: Path, runtime: Path) -> Program:
    need("mcs", "mono")
    (folder / "program").mkdir()  # libraries that lie beside it are found in any case
    program = folder / "program" / "Explain.exe"
    source = EXAMPLES / "csharp" / "Explain.cs"
    run(["mcs", "-warnaserror", f"-out:{program}", source])
    (folder / "libonnxruntime.so").symlink_to(runtime)
    return Program(["mono", program], {"LD_LIBRARY_PATH": f"{library}:{folder}"})


@pytest.fixture(scope="module", params=[rust, java, go, csharp], ids=lambda each: each.__name__)
def program(request, tmp_path_factory):
    library, runtime = library_folder(tmp_path_factory), onnxruntime_library()
    return request.param(tmp_path_factory.mktemp(request.param.__name__), library, runtime)


def tensor_of(folder: Path) -> tuple[Path, np.ndarray]:
    tensor = np.random.default_rng(4).normal(size=(1, 3, 6, 6)).astype(np.float32)
    (folder / "a.f32").write_bytes(tensor.tobytes())
    return folder / "a.f32", tensor


def test_same_as_python(program, tmp_path):
    found = case(tmp_path, HandMade())
    file, tensor = tensor_of(tmp_path)
    picture = open_picture(found.picture)
    for words in ([], [3]):
        found.out.unlink(missing_ok=True)
        words = [found.model, file, found.picture, found.out, *words]
        run([*program.command, *words], **program.options)
        target = words[4] if len(words) > 4 else -1
        values = Engine(found.model).maps(tensor, target)[0]
        assert values.max() == 1
        np.testing.assert_array_equal(found.painted(), overlay(values, picture))


def test_bad_input(program, tmp_path):
    found = case(tmp_path, HandMade())
    file, _ = tensor_of(tmp_path)
    model, picture, out = found.words
    (tmp_path / "plain.onnx").write_bytes(HandMade(with_contract=False).bytes())
    (tmp_path / "short.ppm").write_bytes(picture.read_bytes()[:-1])
    (tmp_path / "text.onnx").write_bytes(b"no model")
    for words, word in [
        ((model, file, picture), "expected MODEL"),
        ((model, file, picture, out, "tabby"), "tabby"),
        ((model, file, picture, out, "5"), "target 5: expected 0 to 4, or -1"),
        ((model, file, picture, out, "-2"), "target -2: expected 0 to 4, or -1"),
        ((tmp_path / "plain.onnx", file, picture, out), "not an explaining file"),
        ((tmp_path / "text.onnx", file, picture, out), "text.onnx"),
        ((model, picture, picture, out), "expected float32"),
        ((model, file, tmp_path / "short.ppm", out), "expected a whole PPM"),
        ((model, file, tmp_path / "absent.ppm", out), "absent.ppm"),
        ((model, file, picture, tmp_path / "absent" / "out.ppm"), "absent"),
    ]:
        check_refused([*program.command, *words], word, tmp_path, **program.options)


def test_without_onnxruntime(program, tmp_path):
    found = case(tmp_path, HandMade())
    file, _ = tensor_of(tmp_path)
    words = [found.model, file, found.picture, found.out]
    environment = program.environment | {"ONNXRUNTIME_LIBRARY": str(tmp_path / "onnxruntime.so")}
    if "LD_LIBRARY_PATH" in environment:
        environment["LD_LIBRARY_PATH"] = environment["LD_LIBRARY_PATH"].split(":")[0]
    options = {"env": os.environ | environment}
    check_refused([*program.command, *words], "onnxruntime", tmp_path, **options)
