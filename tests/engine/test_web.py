"""`onnxcam web` without a browser: what it writes, and what it refuses."""

from __future__ import annotations

import gzip
import json
import re
import shutil

import numpy as np
import onnx
import pytest
from PIL import Image

from helpers_explaining import HandMade
from onnxcam.cli import main
from onnxcam.contract import Preprocessing
from onnxcam.errors import MissingExtraError, OnnxcamError
from onnxcam.web import runtime
from onnxcam.web.site import PAGE, site_files, write_site

WASM = b"\0asm stands in for ONNX Runtime"


@pytest.fixture
def package(tmp_path):
    """What of the npm package onnxruntime-web is read, with other content."""
    dist = tmp_path / "onnxruntime-web" / "dist"
    dist.mkdir(parents=True)
    (dist / "ort.wasm.min.mjs").write_text("export {};")
    (dist / "ort-wasm-simd-threaded.mjs").write_text("export default 1;")
    (dist / "ort-wasm-simd-threaded.wasm").write_bytes(WASM)
    return dist.parent


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "hand.cam.onnx"
    path.write_bytes(HandMade().bytes())
    return path


def web(model, site, package, *options):
    given = ["web", str(model), "-o", str(site), "--onnxruntime-web", str(package)]
    return main([*given, *map(str, options)])


def everything(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def test_the_site_is_whole(model, package, tmp_path, capsys):
    site = tmp_path / "deep" / "site"
    sample = tmp_path / "dog.JPG"
    Image.new("RGB", (9, 9)).save(sample, "JPEG")
    assert web(model, site, package, "--sample", sample, "--title", "Hände") == 0
    assert f"http.server -d {site}" in capsys.readouterr().out
    files = everything(site)
    document = json.loads(files["site.json"])
    assert document["title"] == "Hände"
    assert files["model.onnx"] == model.read_bytes()
    assert files[document["sample"]] == sample.read_bytes()
    assert gzip.decompress(files[document["runtime"]["file"]]) == WASM
    assert files["onnxcam/onnxcam.wasm"][:4] == b"\0asm"
    for part in ("model", "kernels", "runtime"):
        assert document[part]["bytes"] == len(files[document[part]["file"]])
    # Every file that another one names is there.
    for name, content in files.items():
        folder = name.rpartition("/")[0]
        text = content.decode(errors="ignore") if name.endswith((".js", ".html")) else ""
        for found in re.findall(r'(?:from|src=|href=)\s*"([\w./-]+)"', text):
            place = (site / folder / found).resolve()
            assert place.is_file(), (name, found)
    assert [p.name for p in site.parent.iterdir()] == ["site"]  # nothing temporary is left


def test_a_site_is_replaced_and_nothing_else_is(model, package, tmp_path, capsys):
    site = tmp_path / "site"
    site.mkdir()
    assert web(model, site, package) == 0  # an empty folder
    first = json.loads((site / "site.json").read_text())
    assert first["title"] == "hand" and first["sample"] is None
    (site / "stale.js").write_text("")
    assert web(model, site, package, "--title", "again") == 0
    assert json.loads((site / "site.json").read_text())["title"] == "again"
    assert not (site / "stale.js").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "site.json").write_text('{"made_by": "me"}')
    capsys.readouterr()
    for other in (mine, model):
        before = other.stat()
        assert web(model, other, package) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert other.stat() == before


def test_a_failing_write_leaves_the_former_site(model, package, tmp_path, monkeypatch):
    site = tmp_path / "site"
    assert web(model, site, package) == 0
    before = everything(site)
    files = {"site.json": b"{}", "index.html/impossible": b"", "index.html": b""}
    with pytest.raises(OSError, match=r"index\.html"):
        write_site(site, files)
    assert everything(site) == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def unsuitable(tmp_path):
    """Names and contents of files that the site can't run, and a word of the reason."""
    external = onnx.load_model_from_string(HandMade().bytes())
    onnx.save(
        external, tmp_path / "external.onnx", save_as_external_data=True, size_threshold=0,
        location="weights.bin",
    )  # fmt: skip
    yield "external.onnx", (tmp_path / "external.onnx").read_bytes(), "weights in other files"
    yield "empty.onnx", b"", "empty"
    yield "text.onnx", b"hello", "not an ONNX file"
    yield "cut.onnx", HandMade().bytes()[:900], "not an ONNX file"
    yield "plain.onnx", HandMade(with_contract=False).bytes(), "onnxcam export"
    yield "raw.onnx", HandMade(preprocess=None).bytes(), "--preprocess"
    big = HandMade(dtype="int64", preprocess=Preprocessing(size=(6, 6)))
    yield "wide.onnx", big.bytes(), "int64"
    further = HandMade().model()
    extra = onnx.helper.make_tensor_value_info("age", onnx.TensorProto.FLOAT, [1])
    further.graph.input.append(extra)
    further.graph.node.append(onnx.helper.make_node("Identity", ["age"], ["older"]))
    further.graph.output.append(
        onnx.helper.make_tensor_value_info("older", onnx.TensorProto.FLOAT, [1])
    )
    yield "further.onnx", further.SerializeToString(), "age"


def test_unsuitable_models_are_refused_with_a_reason(package, tmp_path, capsys):
    for name, content, word in unsuitable(tmp_path):
        path = tmp_path / name
        path.write_bytes(content)
        capsys.readouterr()
        assert web(path, tmp_path / "site", package) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("onnxcam web: ") and word in line and name in line, line
        assert not (tmp_path / "site").exists()
    for path, word in ((tmp_path / "absent.onnx", "no such file"), (tmp_path, "folder")):
        assert web(path, tmp_path / "site", package) == 2
        assert word in capsys.readouterr().err


def test_other_bad_arguments(model, package, tmp_path, capsys, monkeypatch):
    site = tmp_path / "site"
    text = tmp_path / "sample.png"
    text.write_text("not a picture")
    assert web(model, site, package, "--sample", text) == 2
    assert "not a picture of a known format" in capsys.readouterr().err
    assert web(model, site, package, "--sample", tmp_path / "sample.tif") == 2
    assert ".png" in capsys.readouterr().err
    assert web(model, site, tmp_path) == 2
    assert "dist/ort.wasm.min.mjs" in capsys.readouterr().err
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(MissingExtraError, match="--onnxruntime-web"):
        runtime.runtime_files(None)
    assert not site.exists()


def test_npm_that_fails_says_why(tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(npm))
    with pytest.raises(OnnxcamError, match="npm error network"):
        runtime.runtime_files(None)


def test_kernels_that_cannot_be_had_say_what_to_install(
    model, package, tmp_path, capsys, monkeypatch
):
    from onnxcam.javascript import wasm
    from onnxcam.native import build

    monkeypatch.setattr(wasm, "INSTALLED", tmp_path / "absent.wasm")
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda _: None)
    assert web(model, tmp_path / "site", package) == 2
    error = capsys.readouterr().err
    assert "onnxcam[native]" in error and "onnxcam.wasm" in error


def test_the_page_names_no_other_host():
    """Nothing of the page or the package comes from, or goes, elsewhere."""
    files = site_files(b"", "none", {runtime.WASM: b""}, wasm=b"")
    for name, content in files.items():
        addresses = re.findall(rb"\w+://[\w.-]+", content)
        allowed = {b"http://www.w3.org"} if name.endswith(".svg") else {b"https://"}
        assert set(addresses) <= allowed, (name, addresses)
    policy = (PAGE / "index.html").read_text()
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=", policy)  # what it would block


def test_samples_are_what_pillow_reads(model, package, tmp_path):
    site, sample = tmp_path / "site", tmp_path / "a.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(sample)
    assert web(model, site, package, "--sample", sample) == 0
    assert Image.open(site / "sample.png").size == (4, 4)
