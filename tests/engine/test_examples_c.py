"""The C program that explains, built by its Makefile, against the Python engine byte for byte."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from onnx import helper, numpy_helper

from helpers_examples import EXAMPLES, case, check_refused, library_folder, onnxruntime_library
from helpers_explaining import HandMade
from helpers_native import run
from onnxcam.contract import METADATA_KEY, Preprocessing, Resize
from onnxcam.methods import METHODS

SANITIZERS = "-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
SIZE = (6, 6)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A function that runs make with these CFLAGS; the program's path."""
    if shutil.which("gcc") is None or shutil.which("make") is None:
        pytest.skip("gcc or make is not installed")
    library, runtime = library_folder(tmp_path_factory), onnxruntime_library()
    programs = {}

    def build(flags="-O2"):
        if flags not in programs:
            folder = tmp_path_factory.mktemp("c")
            given = [f"BUILD={folder}", f"ONNXCAM={library}", f"ONNXRUNTIME={runtime}"]
            environment = os.environ | {"CFLAGS": flags, "PYTHON": sys.executable}
            run(["make", "-C", EXAMPLES / "c", "CC=gcc", *given], env=environment)
            programs[flags] = folder / "explain"
        return programs[flags]

    return build


def prepared(**options) -> HandMade:
    """A model of another preprocessing."""
    resize = Resize(**options.pop("resize", {}))
    chosen = {"scale": 1 / 255, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)} | options
    return HandMade(preprocess=Preprocessing(size=SIZE, resize=resize, **chosen))


CROP = {"mode": "crop", "shorter_side": 9}
MODELS = {
    "plain": HandMade(),
    "uint8": HandMade(dtype="uint8", preprocess=Preprocessing(size=SIZE)),
    "uint8, scaled": HandMade(dtype="uint8", preprocess=Preprocessing(size=SIZE, scale=1.7)),
    "NHWC": HandMade(layout="NHWC"),
    "weights": HandMade(emit="weights"),
    "heatmap": HandMade(emit="heatmap"),
    "several targets": HandMade(targets="several"),
    "no target": HandMade(targets="none"),
    "batch of one": HandMade(batch=1),
    "softmax": HandMade(kind="softmax"),
    "saturated": HandMade(kind="softmax", weight_scale=1000.0),
    "sigmoid": HandMade(kind="sigmoid"),
    "raw": HandMade(kind="raw", activation=None, labels=None),
    "scores [N, C, 1, 1]": HandMade(output_4d=True),
    "BGR": prepared(color="BGR", resize=CROP),
    "nearest": prepared(resize=CROP | {"filter": "nearest"}),
    "bicubic": prepared(resize={"filter": "bicubic"}),
    "bicubic crop": prepared(resize=CROP | {"filter": "bicubic"}),
    "crop": prepared(resize=CROP),
    "no antialias": prepared(resize=CROP | {"antialias": False}),
    "no antialias, bicubic": prepared(resize={"antialias": False, "filter": "bicubic"}),
}
SIZES = [(37, 53), (130, 41), (5, 4), (1, 9)]


def check_equal(program, found, target=None, method="gradcam"):
    words = [] if target is None else [target]
    words += [] if method == "gradcam" else ["--method", method]
    found.out.unlink(missing_ok=True)
    printed = run([program, *found.words, *words]).decode()
    expected = found.expected(-1 if target is None else target, method)
    np.testing.assert_array_equal(found.painted(), expected.overlay())
    rows = [line.split(maxsplit=4) for line in printed.replace("*", " * ").splitlines()]
    rows = [[word for word in row if word not in "*%"] for row in rows]
    top = expected.top(5)
    assert [int(row[0]) for row in rows] == [each.index for each in top]
    for row, each in zip(rows, top, strict=True):
        value = each.score if each.probability is None else 100 * each.probability
        assert float(row[1]) == pytest.approx(value, abs=1e-4)
        if each.label is not None:
            assert row[-1].endswith(each.label.split()[-1])
    marked = [line for line in printed.splitlines() if line.startswith("*")]
    assert [int(line[1:].split()[0]) for line in marked] == [expected.target]


@pytest.mark.parametrize("name", MODELS)
def test_same_as_python(made, tmp_path, name):
    check_equal(made(), case(tmp_path, MODELS[name]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["plain", "crop", "bicubic", "no antialias"])
def test_pictures_of_other_sizes(made, tmp_path, name, size):
    check_equal(made(), case(tmp_path, MODELS[name], *size))


@pytest.mark.parametrize("target", [-1, 0, 4])
def test_a_class(made, tmp_path, target):
    check_equal(made(), case(tmp_path, HandMade()), target)
    check_equal(made(), case(tmp_path, HandMade(targets="several")), target)


@pytest.mark.parametrize("method", list(METHODS))
def test_a_method(made, tmp_path, method):
    check_equal(made(), case(tmp_path, HandMade()), method=method)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_quantised_scores(made, tmp_path, dtype):
    model = HandMade().model()
    scale, zero = 0.37, 3 if dtype == "int8" else 130
    constants = {"q_scale": np.float32(scale), "q_zero": np.array(zero, dtype)}
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants.items()
    )
    model.graph.node.append(helper.make_node("QuantizeLinear", ["scores", *constants], ["bytes"]))
    output = next(each for each in model.graph.output if each.name == "scores")
    output.name = "bytes"
    output.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    document = json.loads(HandMade().contract().dumps())
    document["output"] |= {"name": "bytes", "scale": scale, "zero_point": zero}
    helper.set_model_props(model, {METADATA_KEY: json.dumps(document)})
    check_equal(made(), case(tmp_path, model.SerializeToString()))


def test_a_gray_network_that_ships(made, tmp_path):
    from onnxcam_export import from_onnx
    from onnxcam_models import network

    shipped = network("mnist-style")
    found = case(tmp_path, HandMade())
    from_onnx(str(shipped.path), preprocess=shipped.preprocess, output=str(found.model))
    check_equal(made(), found)


def test_plain_only_predicts(made, tmp_path):
    found = case(tmp_path, HandMade())
    whole = run([made(), *found.words])
    found.out.unlink()
    assert run([made(), "--plain", "--threads", "1", found.model, found.picture]) == whole
    assert not found.out.exists()


def with_metadata(change) -> bytes:
    """The plain model with its contract changed: by a function of the document, or a text."""
    model = HandMade().model()
    text = change
    if callable(change):
        document = json.loads(HandMade().contract().dumps())
        change(document)
        text = json.dumps(document)
    helper.set_model_props(model, {METADATA_KEY: text})
    return model.SerializeToString()


def test_labels_in_any_script(made, tmp_path):
    labels = ["Größe", "n02099601 猫", 'quote " and \\ slash', "😀", "tab\tin it"]
    for escaped in (True, False):
        document = json.loads(HandMade().contract().dumps()) | {"labels": labels}
        content = with_metadata(json.dumps(document, ensure_ascii=escaped))
        printed = run([made(), *case(tmp_path, content).words]).decode()
        for label in labels:
            assert label.removeprefix("n02099601 ") + "\n" in printed


def put(*path_and_value):
    """A change of a document: the value at a path of keys."""

    def change(document):
        *path, last, value = path_and_value
        for key in path:
            document = document[key]
        document[last] = value

    return change


BAD_CONTRACTS = {
    "not JSON": "{",
    "more behind it": "{} {}",
    "a list": "[]",
    "too deep": "[" * 100,
    "another version": put("version", 2),
    "emit": put("emit", "everything"),
    "no output": put("output", None),
    "kind": put("output", "kind", "guess"),
    "no such output": put("output", "name", "absent"),
    "scale": put("output", "scale", 0),
    "scale of text": put("output", "scale", "1"),
    "no input": put("input", {}),
    "dtype": put("input", "dtype", "float16"),
    "layout": put("input", "layout", "NC"),
    "no such input": put("input", "name", "absent"),
    "no preprocessing": put("input", "preprocess", None),
    "size": put("input", "preprocess", "size", [6]),
    "a size of text": put("input", "preprocess", "size", ["6", 6]),
    "a huge size": put("input", "preprocess", "size", [6, 1e9]),
    "a negative size": put("input", "preprocess", "size", [-6, 6]),
    "half a pixel": put("input", "preprocess", "size", [6.5, 6]),
    "another size": put("input", "preprocess", "size", [7, 7]),
    "a size to fill the memory": put("input", "preprocess", "size", [65000, 65000]),
    "color": put("input", "preprocess", "color", "CMYK"),
    "std of zero": put("input", "preprocess", "std", [0]),
    "two means": put("input", "preprocess", "mean", [0, 0]),
    "filter": put("input", "preprocess", "resize", "filter", "lanczos"),
    "mode": put("input", "preprocess", "resize", "mode", "pad"),
    "crop without side": put("input", "preprocess", "resize", {"mode": "crop"}),
    "side too short": put("input", "preprocess", "resize", {"mode": "crop", "shorter_side": 3}),
    "labels": put("labels", "tabby"),
    "label numbers": put("labels", [1, 2, 3, 4, 5]),
    "too few labels": put("labels", ["tabby"]),
}


@pytest.fixture(scope="module")
def sanitized(made):
    """The program under AddressSanitizer and UndefinedBehaviorSanitizer, leaks too."""
    return made(SANITIZERS)


@pytest.mark.parametrize("name", BAD_CONTRACTS)
def test_bad_contracts(sanitized, tmp_path, name):
    found = case(tmp_path, with_metadata(BAD_CONTRACTS[name]))
    check_refused([sanitized, *found.words], "", tmp_path)


def with_open_classes() -> bytes:
    """A model whose output does not say how many classes there are; its labels do."""
    model = HandMade().model()
    scores = next(each for each in model.graph.output if each.name == "scores")
    scores.type.tensor_type.shape.dim[1].dim_param = "classes"
    return model.SerializeToString()


def bad_arguments(found, folder):
    """Arguments that have to be refused, and a word of the reason."""
    model, picture, out = found.words
    whole = picture.read_bytes()
    plain = HandMade(with_contract=False).bytes()
    for name, content in {
        "short.ppm": whole[:-1],
        "zero.ppm": b"P6\n0 9\n255\n",
        "gray.ppm": b"P5\n1 1\n255\n\0",
        "empty.ppm": b"",
        "huge.ppm": b"P6\n99999999999999999999 3\n255\n",
        "hair.ppm": b"P6\n32768 1\n255\n" + bytes(3 * 32768),
        "plain.onnx": plain,
        "text.onnx": b"no model",
        "short.onnx": model.read_bytes()[:500],
        "empty.onnx": b"",
        "crop.onnx": prepared(resize=CROP | {"shorter_side": 65000}).bytes(),
        "weights.onnx": HandMade(emit="weights").bytes(),
        "open.onnx": with_open_classes(),
        "two.onnx": HandMade(batch=2).bytes(),
        "fixed.onnx": HandMade(targets="none").bytes(),
    }.items():
        (folder / name).write_bytes(content)
    yield (), "expected MODEL"
    yield (model, picture), "expected MODEL"
    yield (model, picture, out, "1", "2"), "expected MODEL"
    yield ("--plain", model), "expected MODEL"
    yield ("--nonsense", "x", model, picture, out), "--nonsense: unknown"
    yield (model, picture, out, "--threads"), "--threads"
    yield (model, picture, out, "--threads", "-1"), "0 to 1024"
    yield (model, folder / "absent.ppm", out), "absent.ppm"
    for name in ("short", "zero", "gray", "empty", "huge"):
        yield (model, folder / f"{name}.ppm", out), "PPM"
    yield (folder / "crop.onnx", folder / "hair.ppm", out), "too narrow"
    yield (folder / "absent.onnx", picture, out), "absent.onnx"
    for name in ("text", "short", "empty"):
        yield (folder / f"{name}.onnx", picture, out), "cannot load the model"
    yield (folder / "plain.onnx", picture, out), "not an explaining file"
    for target in ("5", "1000", "-2"):
        yield (model, picture, out, target), f"target {target}: expected 0 to 4, or -1"
    yield (folder / "open.onnx", picture, out, "5"), "target 5: expected 0 to 4, or -1"
    for target in ("", "tabby", "1.5", "99999999999"):
        yield (model, picture, out, target), "expected an index"
    yield (folder / "two.onnx", picture, out), "batches of 2"
    yield (folder / "fixed.onnx", picture, out, "1"), "always explains the highest score"
    yield (model, picture, out, "--method", "camcam"), "unknown"
    weights = (folder / "weights.onnx", picture, out, "--method", "layercam")
    yield weights, "needs the gradient"
    missing = ("--provider", "CUDAExecutionProvider", model, picture, out)
    yield missing, "not in this onnxruntime, which has"
    yield ("--onnxruntime", "absent.so", model, picture, out), "absent.so"
    yield (model, picture, folder / "absent" / "out.ppm"), "cannot be written"


def test_bad_input(sanitized, tmp_path):
    found = case(tmp_path, HandMade())
    for arguments, word in bad_arguments(found, tmp_path):
        check_refused([sanitized, *arguments], word, tmp_path)


def test_the_library_that_it_links_is_no_onnxruntime(sanitized, tmp_path, tmp_path_factory):
    found = case(tmp_path, HandMade())
    other = library_folder(tmp_path_factory) / "libonnxcam.so"
    check_refused([sanitized, "--onnxruntime", other, *found.words], "another library", tmp_path)


@pytest.mark.parametrize("name", ["crop", "NHWC", "heatmap", "several targets", "no antialias"])
def test_under_sanitizers(sanitized, tmp_path, name):
    check_equal(sanitized, case(tmp_path, MODELS[name]))
    check_equal(sanitized, case(tmp_path, MODELS[name], 3, 2))


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_bad_input_under_valgrind(made, tmp_path):
    """What is refused before onnxruntime is loaded, which takes valgrind minutes."""
    command = ["valgrind", "-q", "--leak-check=full", "--error-exitcode=9", made("-g -O1")]
    found = case(tmp_path, HandMade())
    for arguments, word in bad_arguments(found, tmp_path):
        if word in ("PPM", "0 to 1024", "absent.so"):
            check_refused([*command, *arguments], word, tmp_path)


def test_maps_that_say_nothing_have_a_warning(made, tmp_path):
    found = case(tmp_path, HandMade(weight_scale=0.0))
    done = subprocess.run([made(), *found.words], capture_output=True, text=True, check=True)
    assert done.stderr == "explain: the map is empty: no value is positive\n"
    np.testing.assert_array_equal(found.painted(), found.expected().overlay())


JSON_DRIVER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "json.h"
static void show(const Json *v) {
    if (v->kind == JSON_NUMBER) printf("%.17g ", v->number);
    else if (v->kind == JSON_TEXT) printf("%zu:%s ", strlen(v->text), v->text);
    else if (v->kind < JSON_NUMBER) printf("%c ", "NFT"[v->kind]);
    else {
        size_t n = v->kind == JSON_OBJECT ? 2 * v->count : v->count;
        printf("%c%zu ", v->kind == JSON_OBJECT ? '{' : '[', v->count);
        for (size_t i = 0; i < n; ++i) show(&v->items[i]);
    }
}
int main(void) {
    static char all[1 << 22];
    size_t size = fread(all, 1, sizeof all - 1, stdin);
    for (char *at = all; at < all + size; at += strlen(at) + 1) {
        char *own = malloc(strlen(at) + 1); /* of just its size, for the sanitizer */
        strcpy(own, at);
        Json document;
        if (json_read(own, &document)) show(&document);
        else printf("refused");
        json_free(&document);
        free(own);
        putchar(30);
    }
    return 0;
}
"""

WHOLE = r"""{"a": [1, -2.5e+3, 0, 0.125E-2, true, false, null], "": {"x\ty": "\u00e9\ud83d\ude00"},
"e": [], "o": {}, "s": "\"\\\/\b\f\n\r\t ü 猫", "n": [[["deep"]]], "r": {"k": [{"l": 1}]}}"""
PIECES = [*'{}[]",:\\ ux0123456789abcdeE+-.tfn\t', "\\u", "\\ud83d", "\\u0000", "01", "1."]


def shown(text: str) -> str:
    """What the driver prints, by Python's own reader."""

    def refuse(word):
        raise ValueError(word)

    def show(value) -> str:
        if value is None or isinstance(value, bool):
            return {None: "N ", False: "F ", True: "T "}[value]
        if isinstance(value, float):
            return f"{value:.17g} "
        if isinstance(value, str):
            if "\0" in value:
                raise ValueError(value)
            return f"{len(value.encode())}:{value} "
        if isinstance(value, tuple):
            parts = "".join(show(key) + show(item) for key, item in value)
            return f"{{{len(value)} {parts}"
        return f"[{len(value)} " + "".join(map(show, value))

    try:
        found = json.loads(text, object_pairs_hook=tuple, parse_int=float, parse_constant=refuse)
        return show(found)
    except (ValueError, UnicodeEncodeError):  # a lone half of a surrogate pair too
        return "refused"


def test_json_is_read_as_python_reads_it(tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    (tmp_path / "driver.c").write_text(JSON_DRIVER)
    program = tmp_path / "driver"
    folder = EXAMPLES / "c"
    command = ["gcc", *SANITIZERS.split(), f"-I{folder}", tmp_path / "driver.c", folder / "json.c"]
    run([*command, "-o", program])
    random = np.random.default_rng(8)
    texts = [WHOLE, "", " ", "0", "-", "-0", "1e400", '"', '"\x01"', "nul", "[1,]", '{"a":1,}']
    texts += ["[" * 40 + "]" * 40, "NaN", "[1 2]", '{"a" 1}', "{1: 2}", '"\\ude00"', '"\\ud83dx"']
    for _ in range(4000):
        text = WHOLE
        for _ in range(random.integers(1, 4)):
            at, piece = int(random.integers(len(text))), str(random.choice(PIECES))
            text = text[:at] + piece + text[at + int(random.integers(0, 3)) :]
        texts.append(text)
    answer = run([program], input="\0".join(texts).encode() + b"\0").decode().split("\x1e")
    expected = [shown(text) for text in texts]
    # Python nests as deep as it likes.
    expected[texts.index("[" * 40 + "]" * 40)] = "refused"
    assert sum(text != "refused" for text in expected) > 250
    for text, one, other in zip(texts, answer, expected, strict=False):
        assert one == other, text
