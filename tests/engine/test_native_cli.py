"""`onnxcam native` as a user meets it."""

from __future__ import annotations

import ctypes

import pytest

from helpers_native import built
from onnxcam import __version__, compiled
from onnxcam.cli import main
from onnxcam.native.loader import Library
from onnxcam.native.targets import TARGETS, host_target


def test_build(tmp_path, capsys):
    pytest.importorskip("ziglang", reason="ziglang links the library")
    assert main(["native", "build", "--target", "wasm32", "-o", str(tmp_path / "new")]) == 0
    library, header = tmp_path / "new" / "onnxcam.wasm", tmp_path / "new" / "onnxcam.h"
    assert capsys.readouterr().out.splitlines() == [str(library), str(header)]
    assert library.read_bytes().startswith(b"\0asm")
    assert "onnxcam_gradcam" in header.read_text()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [header.name, library.name]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--target", "sparc-linux"], "'sparc-linux' is unknown; known are x86_64-linux"),
        (["--target", "wasm32"], "give -o DIR"),
        (["--target", "wasm32", "-o", "{folder}/file"], "file"),
    ],
)
def test_bad_arguments(words, expected, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    words = [word.format(folder=tmp_path) for word in words]
    assert main(["native", "build", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("onnxcam native: ")
    assert expected in error
    assert len(error.splitlines()) == 1


def test_build_without_ziglang(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["native", "build", "--target", "wasm32", "-o", str(tmp_path)]) == 2
    assert "pip install 'onnxcam[native]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_info(tmp_path_factory, capsys, monkeypatch):
    monkeypatch.setattr(compiled, "origin", lambda: "jit")
    assert main(["native", "info"]) == 0
    assert "Numba" in capsys.readouterr().out
    host = host_target()
    if host is None:
        pytest.skip("no target is this machine")
    library = built(host.name, tmp_path_factory)
    monkeypatch.setattr(compiled, "origin", lambda: str(library))
    assert main(["native", "info"]) == 0
    assert str(library) in capsys.readouterr().out
    assert Library(library).version == __version__
    assert ctypes.CDLL(str(library)).onnxcam_variant() in range(len(TARGETS[host.name].variants))
