"""Files of finished heatmaps in the engine and on the command line: as those of the gradient."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import onnxcam_models
from helpers_onnx import SHARED_DATA, needs_shared_data, small_network
from helpers_tokens import SmallViT, older_export
from onnxcam import Engine, Stream
from onnxcam.cli import main
from onnxcam.contract import METADATA_KEY, Contract
from onnxcam.diagnosis import REASONS
from onnxcam.errors import ContractError, ExportError, MethodError
from onnxcam.methods import METHODS
from onnxcam_export import from_onnx, from_torch
from onnxcam_export.assemble import build
from onnxcam_export.sources import onnx_file, pytorch
from onnxcam_export.verify import verify, verify_each

RANDOM = np.random.default_rng(2)
PHOTO = RANDOM.integers(0, 256, (20, 24, 3), np.uint8)
OTHER = RANDOM.integers(0, 256, (30, 18, 3), np.uint8)
PICTURES = RANDOM.standard_normal((3, 3, 16, 16)).astype(np.float32)


def engine(plain, **options) -> Engine:
    return Engine(from_onnx(plain, **options).SerializeToString())


def check_as_gradient(plain, pictures, methods=tuple(METHODS), **options):
    """Every method: the heatmap's file against the engine's own map."""
    of_gradient = engine(plain, **options)
    for method in methods:
        found = engine(plain, **options, emit="heatmap", method=method)
        assert found.method == method
        for target in (None, 3):
            for one, other in zip(
                found.explain(pictures, target),
                of_gradient.explain(pictures, target, method),
                strict=True,
            ):
                assert (one.target, one.method) == (other.target, method)
                np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(one.map, other.map, atol=1e-5)
                assert one.map.max() == 1 or one.diagnosis.reason == "nothing_positive"


@pytest.mark.parametrize("layer", ["relu2", "relu1"])
def test_every_method(layer):
    check_as_gradient(small_network(), [PHOTO, OTHER], layer=layer, preprocess="unit")


@pytest.mark.parametrize("name", onnxcam_models.names())
def test_shipped_networks(name):
    shipped = onnxcam_models.network(name)
    options = {"layer": shipped.layer, "activation": shipped.activation}
    check_as_gradient(shipped.path, [PHOTO, OTHER], preprocess=shipped.preprocess, **options)


@pytest.mark.parametrize(("prefix", "head"), [(1, "token"), (0, "mean")])
def test_tokens_of_a_transformer(prefix, head):
    torch.manual_seed(1)
    plain = older_export(SmallViT(prefix=prefix, head=head), torch.randn(1, 3, 16, 24))
    # The others divide by sums of the activation, which here may nearly vanish.
    methods = [name for name in METHODS if name not in ("gradcam++", "xgradcam")]
    check_as_gradient(plain, [PHOTO, OTHER], methods, layer="blocks.1.norm2", preprocess="unit")


@needs_shared_data
@pytest.mark.parametrize(
    ("file", "preprocess"),
    [
        ("squeezenet1.1_fp32_logits.onnx", {"color": "BGR", "mean": [104, 117, 123]}),
        ("mlperftiny_resnet8_cifar10.onnx", {"color": "RGB"}),  # channels last, dynamic batch
    ],
)
def test_real_models(file, preprocess):
    photos = [SHARED_DATA / "photos" / name for name in ("bird.jpg", "cat_720p.jpg")]
    check_as_gradient(SHARED_DATA / "models" / file, photos, preprocess=preprocess)


@pytest.mark.parametrize("method", ["gradcam", "xgradcam"])
def test_several_targets_of_a_picture(method):
    options = {"layer": "relu1", "preprocess": "unit", "targets": 3}
    expected = engine(small_network(), **options).explain(PHOTO, [4, None, 0], method)
    found = engine(small_network(), **options, emit="heatmap", method=method)
    for one, other in zip(found.explain(PHOTO, [4, None, 0]), expected, strict=True):
        assert one.target == other.target
        np.testing.assert_allclose(one.map, other.map, atol=1e-5)
    (only,) = found.explain(PHOTO, [4])
    np.testing.assert_allclose(only.map, expected[0].map, atol=1e-5)


@pytest.mark.parametrize("score_of", ["dot", "cosine", "element"])
def test_other_scores_than_classes(score_of):
    plain = small_network(batch=3)
    inputs = {} if score_of == "element" else {"cam_vector": RANDOM.random((3, 5), np.float32)}
    found, expected = (
        engine(plain, layer="relu1", score_of=score_of, emit=emit).maps(PICTURES, inputs=inputs)
        for emit in ("heatmap", "gradient")
    )
    assert expected.max() == 1
    np.testing.assert_allclose(found, expected, atol=1e-5)


class TestSizes:
    def test_as_large_as_the_input(self):
        small, large = (
            engine(small_network(), layer=["relu2", "pool1"], emit="heatmap", heatmap_size=size)
            for size in ("map", "input")
        )
        for layer in (0, 1):
            maps = torch.tensor(small.maps(PICTURES, layer=layer))[:, None]
            expected = torch.nn.functional.interpolate(maps, (16, 16), mode="bilinear")[:, 0]
            found = large.maps(PICTURES, layer=layer)
            np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)

    def test_a_picture_has_its_map_where_it_was(self):
        """What the network saw of the photograph (the centre), whatever the map's size."""
        options = {"preprocess": "imagenet", "emit": "heatmap"}
        photo = np.kron(PHOTO, np.ones((8, 8, 1), np.uint8))
        small, large = (
            engine(small_network(), **options, heatmap_size=size).explain(photo, 1)
            for size in ("map", "input")
        )
        assert small.map.shape == (8, 8)
        assert large.map.shape == (16, 16)
        assert small.rectangle == large.rectangle
        assert small.heatmap.shape == large.heatmap.shape == photo.shape[:2]
        top, bottom = int(small.rectangle.top) - 1, int(small.rectangle.bottom) + 2
        for result in (small, large):
            assert result.heatmap.any()
            assert not result.heatmap[: max(top, 0)].any() and not result.heatmap[bottom:].any()
        # Twice linear is not once linear; far from the corners of the map's cells it nearly is.
        assert np.abs(small.heatmap - large.heatmap).mean() < 0.02


class TestMethods:
    def test_another_method_than_the_files(self):
        content = from_onnx(small_network(), emit="heatmap", method="xgradcam").SerializeToString()
        assert Engine(content).method == "xgradcam"
        found = Engine(content, method="xgradcam")
        np.testing.assert_array_equal(found.maps(PICTURES), found.maps(PICTURES, method="xgradcam"))
        for other in ("gradcam", "layercam"):
            with pytest.raises(MethodError, match=f"'{other}'.* finished heatmap of 'xgradcam'"):
                Engine(content, method=other)
            with pytest.raises(MethodError, match="emit='gradient'"):
                found.maps(PICTURES, method=other)
        with pytest.raises(MethodError, match="unknown"):
            Engine(content, method="cam")
        with pytest.raises(MethodError, match="signed"):
            found.maps(PICTURES, signed=True)

    def test_the_contract_says_which(self):
        model = from_onnx(small_network(), emit="heatmap", method="hirescam", heatmap_size="input")
        (text,) = [p.value for p in model.metadata_props if p.key == METADATA_KEY]
        found = Contract.loads(text)
        assert (found.emit, found.method, found.heatmap_size) == ("heatmap", "hirescam", "input")
        document = json.loads(text)
        older = {k: v for k, v in document.items() if k not in ("method", "heatmap_size")}
        found = Contract.loads(json.dumps(older))
        assert (found.method, found.heatmap_size) == (None, "map")
        for key, value in (("method", 1), ("heatmap_size", "large")):
            with pytest.raises(ContractError):
                Contract.loads(json.dumps({**document, key: value}))
        other = from_onnx(small_network(), emit="weights").metadata_props[0].value
        assert "method" not in other and "heatmap_size" not in other


class TestNothingToSee:
    def explained(self, weights, **options):
        plain = small_network()
        for tensor in plain.graph.initializer:
            if tensor.name == "w3":
                tensor.CopyFrom(onnx.numpy_helper.from_array(weights, "w3"))
        return engine(plain, preprocess="unit", emit="heatmap", **options).explain(PHOTO, 1)

    @pytest.mark.parametrize("size", ["map", "input"])
    @pytest.mark.parametrize("value", [-1, 0])
    def test_zero_says_so_and_claims_no_more(self, value, size):
        result = self.explained(np.full((5, 6), value, np.float32), heatmap_size=size)
        assert result.diagnosis.reason == "nothing_positive"
        assert result.diagnosis.sentence == REASONS["nothing_positive"]
        assert "emit='gradient'" in result.diagnosis.sentence
        assert not result.heatmap.any()
        assert result.overlay().shape == PHOTO.shape

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_non_finite(self, value):
        result = self.explained(np.full((5, 6), value, np.float32))
        assert result.diagnosis.reason == "non_finite"
        assert not result.heatmap.any()


def test_frames_of_a_stream():
    for options in ({}, {"input": "uint8"}, {"heatmap_size": "input", "targets": 2}):
        found = engine(small_network(), preprocess="imagenet", emit="heatmap", **options)
        stream = Stream(found)
        for frame in (PHOTO, OTHER, PHOTO):
            assert stream(frame).shape == frame.shape
            result = found.explain(frame)
            np.testing.assert_array_equal(stream.map, result.map)
            assert stream.target == result.target


class TestVerify:
    @pytest.mark.parametrize(
        ("options", "count"),
        [
            ({}, 2),
            ({"layer": ["relu2", "conv1"], "targets": 3, "method": "gradcam++"}, 8),
            ({"layer": "pool1", "heatmap_size": "input", "method": "layercam"}, 2),
            ({"input": "uint8", "preprocess": "imagenet"}, 2),
        ],
    )
    def test_gradient_and_heatmap_are_verified(self, options, count):
        source = onnx_file.capture(small_network())
        found = verify_each(build(source, emit="heatmap", **options), source)
        assert len(found) == count
        assert max(each.error for each in found) < 1e-4
        assert any("heatmap against the engine's" in each.oracle for each in found)

    def test_against_pytorch(self):
        torch.manual_seed(0)
        module = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(400, 4)
        )
        source = pytorch.capture(module, torch.zeros(1, 3, 12, 12), "1")
        built = build(source, layer="1", emit="heatmap", input="uint8", preprocess="caffe")
        found = verify_each(built, source)
        assert ["torch" in each.oracle for each in found] == [True, False]
        assert max(each.error for each in found) < 1e-4
        model = from_torch(module, torch.zeros(1, 3, 12, 12), "1", emit="heatmap")
        assert [value.name for value in model.graph.output][1:] == ["cam_heatmap"]

    @pytest.mark.parametrize("index", [0, 1])
    def test_a_wrong_heatmap_is_found(self, index):
        source = onnx_file.capture(small_network())
        built = build(source, layer=["relu2", "conv1"], emit="heatmap")
        assert verify(built, source).agrees
        name = f"cam_heatmap{'_1' if index else ''}"
        graph = built.model.graph
        node = next(n for n in graph.node if name in n.output)
        node.output[0] = "right"
        graph.node.append(onnx.helper.make_node("Sqrt", ["right"], [name]))
        with pytest.raises(ExportError, match=r"the heatmap is wrong.*heatmap against.*DIFFERS"):
            verify(built, source)


class TestCommandLine:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        onnx.save(small_network(), "plain.onnx")
        Image.fromarray(PHOTO).save("photo.png")
        return tmp_path

    def test_export_inspect_explain_and_bench(self, folder, capsys):
        command = ["export", "onnx", "plain.onnx", "--preprocess", "unit", "--emit", "heatmap"]
        command += ["--method", "layercam", "--heatmap-size", "input", "--input", "uint8"]
        assert main([*command, "--verify", "-o", "out.onnx"]) == 0
        printed = capsys.readouterr().out
        assert "heatmap: layercam, of the input's size" in printed
        assert "input: 'picture', bytes [N, H, W, 3] RGB" in printed
        assert "heatmap against the engine's layercam" in printed
        assert "DIFFERS" not in printed
        assert main(["inspect", "out.onnx"]) == 0
        printed = capsys.readouterr().out
        assert "emits       heatmap (layercam, the input's size)" in printed
        assert "picture  uint8 [batch, 16, 16, 3]" in printed
        assert "cam_heatmap  float [batch, 16, 16]" in printed
        assert main(["explain", "out.onnx", "photo.png", "--json", "--save-map"]) == 0
        (document,) = json.loads(capsys.readouterr().out)["pictures"]
        assert document["method"] == "layercam"
        assert document["diagnosis"]["reason"] is None
        assert np.load(document["map"]).shape == PHOTO.shape[:2]
        assert Image.open(document["overlay"]).size == PHOTO.shape[1::-1]
        assert main(["bench", "out.onnx", "--seconds", "0.1", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["method"] == "layercam"
        assert document["input"] == "uint8 [1, 16, 16, 3]"
        assert main(["bench", "out.onnx", "--plain", "plain.onnx"]) == 2
        assert "takes bytes, 'plain.onnx' float32" in capsys.readouterr().err
        assert main(["explain", "out.onnx", "photo.png", "--preprocess", "imagenet"]) == 2
        assert "leave preprocess out" in capsys.readouterr().err
        for command in ("explain", "bench"):
            picture = ["photo.png"] if command == "explain" else ["--picture", "photo.png"]
            assert main([command, "out.onnx", *picture, "--method", "gradcam"]) == 2
            error = capsys.readouterr().err
            assert "finished heatmap of 'layercam'" in error
            assert len(error.strip().splitlines()) == 1

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--method", "layercam"], "only for a finished heatmap"),
            (["--emit", "weights", "--heatmap-size", "map"], "emits 'weights'"),
            (["--emit", "heatmap", "--method", "cam"], "method 'cam' is unknown"),
            (["--input", "uint8"], "give preprocess"),
            (["--input", "uint8", "--preprocess", "none"], "give preprocess"),
        ],
    )
    def test_bad_options_are_one_line_and_exit_code_2(self, folder, capsys, arguments, message):
        assert main(["export", "onnx", "plain.onnx", *arguments, "-o", "out.onnx"]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1
        assert not (folder / "out.onnx").exists()
