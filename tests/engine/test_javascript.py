"""The npm package in Node, against the Python engine: tensors and overlays byte for byte."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from helpers_browser import why_no_npm
from helpers_explaining import CLASSES, LABELS, HandMade
from helpers_javascript import Node, install, picture_of
from helpers_native import run
from onnxcam import Engine, overlay
from onnxcam._version import __version__
from onnxcam.cli import main
from onnxcam.colormaps import COLORMAPS, find_colormap
from onnxcam.contract import Preprocessing, Resize
from onnxcam.diagnosis import REASONS
from onnxcam.methods import METHODS
from onnxcam.painting import BLENDS
from onnxcam.pictures import open_picture
from onnxcam.preprocess import Preparation

pytestmark = pytest.mark.skipif(bool(why_no_npm()), reason=str(why_no_npm()))
RANDOM = np.random.default_rng(11)
EXAMPLE = Path(__file__).parents[2] / "examples" / "javascript" / "explain.mjs"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    install(folder)
    return Node(folder)


def picture(height, width, channels=3):
    """Smooth colours with some noise; of four channels the last is opaque in part."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 3 + k) + np.cos(y / (4 + k)) for k in range(channels)]
    noise = RANDOM.normal(scale=20, size=(height, width, channels))
    pixels = (128 + 50 * np.stack(waves, axis=2) + noise).clip(0, 255).astype(np.uint8)
    if channels == 4:
        pixels[: height // 2, :, 3] = 255
    return pixels


IMAGENET = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CROP = Resize(mode="crop", shorter_side=64)
PREPROCESSINGS = [
    (Preprocessing(size=(56, 48), **IMAGENET, resize=CROP), "NCHW", "float32"),
    (Preprocessing(size=(31, 44)), "NHWC", "uint8"),
    (Preprocessing(size=(20, 20), color="BGR", mean=(103.9, 116.8, 123.7)), "NHWC", "float32"),
    (Preprocessing(size=(28, 28), color="GRAY", scale=1 / 255), "NCHW", "float32"),
    (Preprocessing(size=(24, 24), resize=Resize(filter="nearest")), "NCHW", "float32"),
    (Preprocessing(size=(24, 40), resize=Resize(filter="bicubic")), "NCHW", "uint8"),
    (Preprocessing(size=(40, 24), resize=Resize(antialias=False)), "NCHW", "float32"),
    (
        Preprocessing(
            size=(40, 24),
            color="GRAY",
            resize=Resize("crop", shorter_side=51, filter="bicubic", antialias=False),
        ),
        "NHWC",
        "uint8",
    ),
    (Preprocessing(size=(17, 19), scale=1 / 127.5, mean=(1.0,)), "NCHW", "float16"),
    (Preprocessing(size=(17, 19), mean=(128.0,)), "NHWC", "int8"),
    (Preprocessing(size=(17, 19), scale=1.5, mean=(3.25,)), "NCHW", "int32"),
    (Preprocessing(size=(17, 19), scale=1 / 3), "NCHW", "float64"),
]
SHAPES = [(97, 131), (64, 64), (240, 3), (2, 200), (1, 1), (480, 640)]


@pytest.mark.parametrize("case", range(len(PREPROCESSINGS)))
def test_tensors_are_pythons_bytes(node, case):
    preprocess, layout, dtype = PREPROCESSINGS[case]
    pictures = [picture(*shape) for shape in SHAPES]
    question = {"preprocess": preprocess.to_json(), "layout": layout, "dtype": dtype}
    answers = node.ask(
        [{"action": "tensor", "picture": picture_of(p), **question} for p in pictures]
    )
    preparation = Preparation(preprocess, layout, dtype)
    for pixels, answer in zip(pictures, answers, strict=True):
        expected = np.empty(preparation.shape, dtype)
        rectangle = preparation.fill(pixels, expected)
        assert answer["values"].tobytes() == expected.tobytes(), pixels.shape
        assert answer["rectangle"] == rectangle._asdict()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_of_any_channels_are_pythons_bytes(node, channels):
    """Transparency is laid over white with Pillow's rounding."""
    pictures = [picture(h, w, channels) for h, w in ((33, 57), (1, 1), (2, 3), (40, 40))]
    if channels == 4:  # every value under every alpha
        value, alpha = np.mgrid[0:256, 0:256].astype(np.uint8)
        pictures.append(np.stack([value, value, value, alpha], axis=2))
    nothing = [{"size": p.shape[:2], "resize": {"filter": "nearest"}} for p in pictures]
    answers = node.ask(
        [
            {"action": "tensor", "picture": picture_of(p), "preprocess": same}
            | {"layout": "NHWC", "dtype": "uint8"}
            for p, same in zip(pictures, nothing, strict=True)
        ]
    )
    for pixels, answer in zip(pictures, answers, strict=True):
        assert answer["values"].tobytes() == open_picture(pixels).tobytes()


PAINTINGS = [
    {},
    {"alpha": 0.5, "colormap": "viridis"},
    {"alpha": 0.8},
    {"blend": "additive", "colormap": "hot"},
    {"blend": "map-alpha", "colormap": "coolwarm", "alpha": 1.0},
    {"blend": "heat", "colormap": "turbo"},
    {"blend": "contours"},
    {"blend": "contours", "levels": [0.4], "lineWidth": 3.5, "colormap": "magma"},
    {"interpolation": "bicubic"},
    {"rectangle": {"left": 3.5, "top": -2.0, "right": 20.0, "bottom": 17.25}},
    {"preset": "diverging"},
    {"preset": "diverging", "blend": "contours", "colormap": "jet"},
    {"preset": "diverging", "blend": "map-alpha", "interpolation": "bicubic"},
]


@pytest.mark.parametrize("options", PAINTINGS, ids=json.dumps)
def test_overlays_are_pythons_bytes(node, options):
    cases = [
        (RANDOM.random((h, w), np.float32) * 1.4 - 0.2, picture(height, width))
        for h, w, height, width in ((7, 7, 61, 83), (1, 1, 1, 1), (12, 3, 9, 640), (5, 5, 30, 30))
    ]
    answers = node.ask(
        [
            {
                "action": "overlay",
                "picture": picture_of(pixels),
                "map": {"width": m.shape[1], "height": m.shape[0], "values": m},
                "options": options,
            }
            for m, pixels in cases
        ]
    )
    named = {re.sub("([A-Z])", r"_\1", k).lower(): v for k, v in options.items()}
    if "rectangle" in named:
        named["rectangle"] = tuple(named["rectangle"].values())
    for (values, pixels), answer in zip(cases, answers, strict=True):
        rgba = answer["pixels"].reshape(*pixels.shape[:2], 4)
        np.testing.assert_array_equal(rgba[..., :3], overlay(values, pixels, **named))
        assert (rgba[..., 3] == 255).all()


MODELS = {
    "logits": HandMade(),
    "softmax, probability": HandMade(kind="softmax", score="probability"),
    "sigmoid, fixed batch": HandMade(kind="sigmoid", batch=3),
    "sigmoid of logits": HandMade(activation="sigmoid"),
    "raw": HandMade(kind="raw", activation=None),
    "weights": HandMade(emit="weights"),
    "heatmap": HandMade(emit="heatmap"),
    "several targets": HandMade(targets="several"),
    "no target": HandMade(targets="none", labels=None),
    "4-D output": HandMade(output_4d=True),
    "channels last": HandMade(layout="NHWC"),
    "float16": HandMade(dtype="float16"),
    "uint8": HandMade(dtype="uint8", preprocess=Preprocessing(size=(6, 6))),
}


@pytest.mark.parametrize("name", MODELS)
def test_results_are_pythons(node, name):
    made = MODELS[name]
    engine = Engine(made.bytes())
    path = node.file(made.bytes())
    pixels = picture(40, 52)
    targets = [None] if made.targets == "none" else [None, -1, 0, 3, "TABBY cat", "4"]
    if made.labels is None:
        targets = [each for each in targets if not isinstance(each, str)]
    methods = [None, *METHODS] if made.emit == "gradient" else [None]
    cases = [(t, None) for t in targets] + [(targets[-1], m) for m in methods]
    answers = node.ask(
        [
            {"action": "explain", "model": path, "picture": picture_of(pixels)}
            | {"options": {"target": t, **({} if m is None else {"method": m})}}
            | {"overlays": [{}, {"preset": "diverging"}]}
            for t, m in cases
        ]
    )
    for (target, method), found in zip(cases, answers, strict=True):
        expected = engine.explain(pixels, target, method)
        assert "error" not in found, found
        assert found["target"] == expected.target
        assert found["label"] == expected.label
        assert found["layer"] == expected.layer
        assert found["size"] == list(expected.map.shape)
        np.testing.assert_allclose(found["score"], expected.score, rtol=1e-5, atol=1e-5)
        if expected.probability is None:
            assert found["probability"] is None
        else:
            np.testing.assert_allclose(found["probability"], expected.probability, atol=1e-6)
        np.testing.assert_allclose(found["map"], expected.map.ravel(), atol=1e-5)
        scale = np.abs(expected.raw).max()
        np.testing.assert_allclose(found["raw"], expected.raw.ravel(), atol=1e-5 * scale)
        np.testing.assert_allclose(found["heatmap"], expected.heatmap.ravel(), atol=1e-5)
        assert found["diagnosis"]["reason"] == expected.diagnosis.reason
        assert found["diagnosis"]["sentence"] == expected.diagnosis.sentence
        top = [(each.index, each.label, each.chosen) for each in expected.top(3)]
        assert [(each["index"], each["label"], each["chosen"]) for each in found["top"]] == top
        for preset, painted in zip((None, "diverging"), found["overlays"], strict=True):
            rgb = painted.reshape(40, 52, 4)[..., :3]
            difference = rgb.astype(int) - expected.overlay(preset=preset)
            assert np.abs(difference).max() <= 1
        if method is not None:
            assert found["method"] == method


def test_a_model_of_several_layers_and_overlapping_calls(node):
    from helpers_onnx import small_network
    from onnxcam_export import from_onnx

    preprocess = Preprocessing(size=(16, 16), scale=1 / 255)
    model = from_onnx(small_network(), ["relu2", "relu1"], preprocess=preprocess)
    path, pixels = node.file(model.SerializeToString()), picture(30, 30)
    engine = Engine(model.SerializeToString())
    question = {"action": "explain", "model": path, "picture": picture_of(pixels), "twice": True}
    layers = [{}, {"layer": 1}, {"layer": "relu1"}, {"layer": "relu9"}]
    *answers, refused = node.ask([question | {"options": each} for each in layers])
    for options, found in zip(layers, answers, strict=False):
        expected = engine.explain(pixels, layer=options.get("layer"))
        np.testing.assert_allclose(found["map"], expected.map.ravel(), atol=1e-5)
        assert found["layers"] == ["relu2", "relu1"]
    assert refused["kind"] == "OnnxcamError"
    assert "1 'relu1'" in refused["error"]


def test_a_model_with_a_further_input(node):
    """The likeness of an embedding to a vector, `cam_vector`."""
    from helpers_onnx import small_network
    from onnxcam_export import from_onnx

    preprocess = Preprocessing(size=(16, 16), scale=1 / 255)
    model = from_onnx(small_network(), preprocess=preprocess, score_of="cosine")
    path, pixels = node.file(model.SerializeToString()), picture(21, 30)
    vector = RANDOM.normal(size=(1, 5)).astype(np.float32)
    question = {"action": "explain", "model": path, "picture": picture_of(pixels)}
    found, refused = node.ask(
        [question | {"options": {"inputs": {"cam_vector": vector}}}, question]
    )
    engine = Engine(model.SerializeToString())
    expected = engine.explain(pixels, inputs={"cam_vector": vector})
    np.testing.assert_allclose(found["map"], expected.map.ravel(), atol=1e-5)
    np.testing.assert_allclose(found["score"], expected.score, rtol=1e-5)
    assert refused["kind"] == "OnnxcamError" and "cam_vector" in refused["error"]


def silent_models():
    """Models whose maps say nothing, the class, and the reason."""
    saturated = HandMade(kind="softmax", score="probability", weight_scale=300.0)
    yield saturated.model(), None, "saturated"
    dark = HandMade()
    dark.weights["dense"][...] = -np.abs(dark.weights["dense"])
    yield dark.model(), 2, "all_negative"
    zero = HandMade()
    zero.weights["dense"][...] = 0
    yield zero.model(), 2, "zero_gradient"
    nan = HandMade()
    nan.weights["dense"][1] = np.nan
    yield nan.model(), 1, "non_finite"
    finished = HandMade(emit="heatmap")
    finished.weights["dense"][...] = dark.weights["dense"]
    model = finished.model()
    (last,) = [node for node in model.graph.node if node.output[0] == "cam_heatmap"]
    last.op_type = "Mul"  # not divided by its maximum, which is zero
    yield model, 2, "nothing_positive"


def test_maps_that_say_nothing_have_pythons_reason(node):
    pixels = picture(12, 12)
    for model, target, reason in silent_models():
        expected = Engine(model.SerializeToString()).explain(pixels, target)
        assert expected.diagnosis.reason == reason
        (found,) = node.ask(
            [
                {"action": "explain", "model": node.file(model.SerializeToString())}
                | {"picture": picture_of(pixels), "options": {"target": expected.target}}
            ]
        )
        assert found["diagnosis"]["reason"] == reason
        assert found["diagnosis"]["sentence"] == REASONS[reason]
        assert not found["map"].any()


def test_bad_questions_are_refused_with_a_reason(node):
    path = node.file(HandMade().bytes())
    good = picture_of(picture(9, 9))
    rows = [
        ({"options": {"target": CLASSES}}, "expected 0 to 4"),
        ({"options": {"target": -2}}, "expected 0 to 4"),
        ({"options": {"target": "10"}}, "expected 0 to 4"),
        ({"options": {"target": 1.5}}, "index or a class name"),
        ({"options": {"target": "dog"}}, "no class has this name"),
        ({"options": {"target": "retriever"}}, "'golden retriever'"),
        ({"options": {"target": "crane"}}, "2 (crane), 3 (crane)"),
        ({"options": {"method": "scorecam"}}, "known are gradcam"),
        ({"options": {"method": "constructor"}}, "known are gradcam"),
        ({"options": {"layer": 1}}, "0 'features.relu'"),
        ({"options": {"inputs": {"mask": 1}}}, "no further input 'mask'"),
        ({"picture": good | {"width": 8}}, "8x9"),
        ({"picture": good | {"width": 0}}, "zero-sized"),
        ({"picture": good | {"height": -9}}, "zero-sized"),
        ({"picture": good | {"height": 2.5}}, "expected {width, height, data}"),
        ({"picture": good | {"pixels": np.zeros(243)}}, "expected {width, height, data}"),
        ({"overlays": [{"alpha": 2}]}, "0 to 1"),
        ({"overlays": [{"colormap": "pink"}]}, "known are jet"),
        ({"overlays": [{"blend": "toString"}]}, "known are alpha"),
        ({"overlays": [{"preset": "signed"}]}, "known is diverging"),
        ({"overlays": [{"out": {"width": 9, "height": 9}}]}, "of 9x9 pixels"),
        ({"overlays": [{"interpolation": "cubic"}]}, "bicubic"),
        ({"overlays": [{"blend": "contours", "levels": [0.5, 1.5]}]}, "between 0 and 1"),
        ({"overlays": [{"blend": "contours", "lineWidth": 0}]}, "limits"),
    ]
    question = {"action": "explain", "model": path, "picture": good}
    unlabelled = node.file(HandMade(labels=None).bytes())
    alone = node.file(HandMade(targets="none").bytes())
    weights = node.file(HandMade(emit="weights").bytes())
    raw = node.file(HandMade(preprocess=None).bytes())
    others = [
        ({"model": unlabelled, "options": {"target": 5}}, "expected 0 to 4"),
        ({"model": unlabelled, "options": {"target": "dog"}}, "no labels"),
        ({"model": alone, "options": {"target": 0}}, "always explains the highest score"),
        ({"model": weights, "options": {"method": "layercam"}}, "--emit gradient"),
        ({"model": raw}, "--preprocess"),
    ]
    rows += others
    for (changes, word), answer in zip(
        rows, node.ask([question | changes for changes, _ in rows]), strict=True
    ):
        assert answer.get("kind") == "OnnxcamError", (changes, answer)
        assert word in answer["error"], (changes, answer)


def bad_files():
    """Files that are no explaining models, and a word of the reason."""
    good = HandMade().model()
    content = good.SerializeToString()
    yield b"", "empty"
    yield b"\0", "not an ONNX file"
    yield b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "not an ONNX file"
    yield b"<!doctype html><title>404</title>", "not an ONNX file"
    yield content[: len(content) // 2], "not an ONNX file"
    yield content[:-1], "not an ONNX file"
    yield HandMade(with_contract=False).bytes(), "no contract"
    for text, word in (
        ("{", "not JSON"),
        ("[]", "version"),
        ("null", "version"),
        ('{"version": 2}', "expected 1, found 2"),
        ('{"version": 1}', "malformed"),
    ):
        yield with_contract(good, text), word
    document = json.loads(HandMade().contract().dumps())
    for key, value, word in (
        ("emit", "rainbow", "emit"),
        ("emit", "constructor", "emit"),
        ("layer", {"tensor": 3}, "layer.tensor"),
        ("labels", ["a", 1], "labels"),
        ("labels", ["only one"], "1 names for 5 classes"),
        ("output", {"name": "absent", "kind": "logits"}, "no output 'absent'"),
        ("output", {"name": "scores", "kind": "logits", "scale": 0}, "scale"),
        ("input", document["input"] | {"name": "absent"}, "no input 'absent'"),
        ("input", document["input"] | {"layout": "WHCN"}, "layout"),
        ("input", document["input"] | {"dtype": "complex64"}, "complex64"),
        ("input", document["input"] | {"preprocess": {"size": [6, 0]}}, "size"),
        ("input", document["input"] | {"preprocess": {"size": [6, 6], "std": [0]}}, "std"),
    ):
        yield with_contract(good, json.dumps(document | {key: value})), word


def with_contract(model, text):
    changed = onnx.ModelProto.FromString(model.SerializeToString())
    changed.metadata_props[0].value = text
    return changed.SerializeToString()


def test_bad_files_are_refused_with_a_reason(node):
    files = list(bad_files())
    pixels = picture_of(picture(6, 6))
    answers = node.ask(
        [{"action": "explain", "model": node.file(f), "picture": pixels} for f, _ in files]
    )
    for (_, word), answer in zip(files, answers, strict=True):
        assert answer.get("kind") == "OnnxcamError", (word, answer)
        assert word in answer["error"], answer
    absent, nothing = node.ask(
        [{"action": "load", "path": "absent.onnx"}, {"action": "load", "path": 3}]
    )
    assert "absent.onnx" in absent["error"] and absent["kind"] == "OnnxcamError"
    assert "expected bytes" in nothing["error"] and nothing["kind"] == "OnnxcamError"


def test_metadata_is_what_onnx_reads(node):
    model = HandMade().model()
    onnx.helper.set_model_props(model, {"a": "ü", "onnxcam": "{}", "long": "x" * 70000, "": ""})
    content = model.SerializeToString()
    random = np.random.default_rng(1)
    broken = []
    for _ in range(300):  # bytes turned over, and ends cut off
        bad = bytearray(content[: random.integers(1, len(content))])
        for at in random.integers(0, len(bad), 3):
            bad[at] = random.integers(256)
        broken.append({"action": "metadata", "base64": bytes(bad)})
    found, *others = node.ask([{"action": "metadata", "base64": content}, *broken])
    expected = [[each.key, each.value] for each in model.metadata_props]
    assert sorted(found["pairs"]) == sorted(expected)
    for answer in others:  # any answer, as long as it is one
        assert "pairs" in answer or answer["kind"] == "OnnxcamError", answer


def test_halves_are_numpys(node):
    values = np.concatenate(
        [
            np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float64),
            RANDOM.normal(size=2000) * 10.0 ** RANDOM.integers(-10, 6, 2000),
            [65519.999, 65520.0, -65520.0, 2.0**-25, 2.0**-25 * 1.0001, 1 + 2.0**-11],
        ]
    )
    (found,) = node.ask([{"action": "halves", "values": values}])
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    actual = found["bits"].view(np.float16)
    np.testing.assert_array_equal(actual, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(actual[numbers]), np.signbit(expected[numbers]))
    every = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float64)
    np.testing.assert_array_equal(found["back"], every)


def test_tables_are_pythons(node):
    (found,) = node.ask([{"action": "tables"}])
    assert found["methods"] == list(METHODS)
    assert found["blends"] == BLENDS
    assert list(found["colormaps"]) == list(COLORMAPS)
    for name, table in found["colormaps"].items():
        np.testing.assert_array_equal(table.reshape(256, 3), find_colormap(name))


def test_types(node):
    """TypeScript accepts what the docs show, every name included, and refuses what is wrong."""
    good = """
import ort from "onnxruntime-node";
import { load, loadKernels, overlay, OnnxcamError, METHODS, BLENDS, COLORMAPS } from "onnxcam";
import type { Blend, Colormap, Diagnosis, Method } from "onnxcam";

const engine = await load("net.onnx", { ort, sessionOptions: { intraOpNumThreads: 1 } });
const names: readonly string[] | null = engine.labels;
const result = await engine.explain(new ImageData(4, 4), { target: "dog", method: "layercam" });
const { data, width }: { data: Uint8ClampedArray; width: number } = result.overlay({ alpha: 0.5 });
const row: string | null = result.top(5)[0].label;
const map: Float32Array = result.heatmap();
const painted = overlay(await loadKernels(), result.map, result.picture, { blend: "contours" });
"""
    good += f"const methods: Method[] = {json.dumps(list(METHODS))};\n"
    good += f"const blends: Blend[] = {json.dumps(list(BLENDS))};\n"
    good += f"const colormaps: Colormap[] = {json.dumps(list(COLORMAPS))};\n"
    good += f'const reasons: Diagnosis["reason"][] = {json.dumps(list(REASONS))};\n'
    bad = """
import { load } from "onnxcam";
load("net.onnx", {});
"""
    options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022"]
    options += ["--lib", "es2022,dom", "--skipLibCheck"]
    (node.folder / "good.mts").write_text(good)
    (node.folder / "bad.mts").write_text(bad)
    command = ["node", node.folder / "node_modules" / "typescript" / "bin" / "tsc", *options]
    run([*command, "good.mts"], cwd=node.folder)
    refused = subprocess.run(
        [*command, "bad.mts"], cwd=node.folder, capture_output=True, text=True, check=False
    )
    assert refused.returncode != 0
    assert "'ort' is missing" in refused.stdout


def test_what_is_packed(node):
    """`npm pack` takes every file that the package needs, and its version is ours."""
    package = node.folder / "onnxcam-package"
    command = [shutil.which("npm"), "pack", "--dry-run", "--json"]
    (packed,) = json.loads(run(command, cwd=package))
    names = {each["path"] for each in packed["files"]}
    assert packed["version"] == __version__
    assert names == {p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file()}


def test_the_command_writes_the_package(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "package"
    assert main(["javascript", "-o", "package"]) == 0
    assert "npm install ./package " in capsys.readouterr().out
    assert main(["javascript", "-o", str(folder)]) == 0  # a newer version over an older one
    assert (folder / "onnxcam.wasm").read_bytes()[:4] == b"\0asm"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "package.json").write_text('{"name": "mine"}')
    (tmp_path / "file").write_text("")
    for other in ("mine", "file"):
        capsys.readouterr()
        assert main(["javascript", "-o", str(tmp_path / other)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_labels_and_their_synonyms(node):
    path, pixels = node.file(HandMade().bytes()), picture_of(picture(6, 6))
    texts = ["tinca  tinca", "n02099601", "Golden_Retriever", "tench, Tinca tinca", "2"]
    answers = node.ask(
        [
            {"action": "explain", "model": path, "picture": pixels, "options": {"target": text}}
            for text in texts
        ]
    )
    assert [answer["target"] for answer in answers] == [4, 1, 1, 4, 2]
    assert answers[1]["label"] == LABELS[1].removeprefix("n02099601 ")


def test_the_example(node, tmp_path):
    """`examples/javascript/explain.mjs` as its first lines say; and what it refuses."""
    shutil.copy(EXAMPLE, node.folder)
    made = HandMade()
    model, pixels, out = node.file(made.bytes()), picture(37, 61), tmp_path / "out.ppm"
    source = tmp_path / "picture.ppm"
    Image.fromarray(pixels).save(source)
    program = ["node", node.folder / EXAMPLE.name]
    printed = run([*program, model, source, out, "golden retriever"]).decode()
    result = Engine(made.bytes()).explain(pixels, "golden retriever")
    (chosen,) = [line for line in printed.splitlines() if line.startswith("*")]
    *words, percent, _ = chosen.split()
    assert words == ["*", "1", "golden", "retriever"]
    assert float(percent) == pytest.approx(100 * result.probability, abs=0.01)
    difference = np.asarray(Image.open(out)).astype(int) - result.overlay()
    assert np.abs(difference).max() <= 1
    out.unlink()
    (tmp_path / "short.ppm").write_bytes(source.read_bytes()[:-1])
    (tmp_path / "gray.ppm").write_bytes(b"P5\n1 1\n255\n\0")
    for arguments, word in (
        ((source, source, out), "not an ONNX file"),
        ((model, tmp_path / "short.ppm", out), "not a whole PPM"),
        ((model, tmp_path / "gray.ppm", out), "not a PPM"),
        ((model, tmp_path / "absent.ppm", out), "absent.ppm"),
        ((model, source, out, "9"), "expected 0 to 4"),
        ((model, source), "expected MODEL.onnx"),
    ):
        done = subprocess.run(
            list(map(str, [*program, *arguments])), capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1 and word in done.stderr
        assert not out.exists()
