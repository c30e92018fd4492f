"""Zoo knowledge against what the libraries themselves do."""

from __future__ import annotations

import importlib
import inspect
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from helpers_torchvision import torchvision
from onnxcam.contract import Preprocessing
from onnxcam.errors import MissingExtraError
from onnxcam_models import imagenet_labels, zoo
from onnxcam_models.zoo import from_keras, from_torchvision

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = importlib.import_module("keras")  # now that the backend is chosen
timm = importlib.import_module("timm")  # it imports torchvision: only after the helper has

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def apply(preprocess: Preprocessing, picture: Image.Image) -> np.ndarray:
    """What a contract's preprocessing means, with Pillow: float [3, H, W]."""
    height, width = preprocess.size
    resample = FILTERS[preprocess.resize.filter]
    if preprocess.resize.mode == "crop":
        side, short = preprocess.resize.shorter_side, min(picture.size)
        new = tuple(side if x == short else int(side * x / short) for x in picture.size)
        picture = picture.resize(new, resample)
        left, top = (round((new[0] - width) / 2), round((new[1] - height) / 2))
        picture = picture.crop((left, top, left + width, top + height))
    else:
        picture = picture.resize((width, height), resample)
    pixels = np.asarray(picture, np.float64)
    if preprocess.color == "BGR":
        pixels = pixels[..., ::-1]
    return ((pixels * preprocess.scale - preprocess.mean) / preprocess.std).transpose(2, 0, 1)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    return coarse.resize((400, 300), Image.Resampling.BICUBIC)


# ---- torchvision


@pytest.mark.parametrize("name", ["resnet18", "inception_v3", "efficientnet_b3", "ssd300_backbone"])
def test_torchvision_without_weights(name, photo):
    entry = zoo.lookup(f"torchvision.models:{name}", {"weights": None})
    if name == "ssd300_backbone":  # no such model
        assert entry is None
        return
    transform = torchvision.models.get_model_weights(name).IMAGENET1K_V1.transforms()
    np.testing.assert_allclose(apply(entry.preprocess, photo), transform(photo).numpy(), atol=2e-6)
    assert entry.labels == imagenet_labels()


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V2", "ResNet50_Weights.IMAGENET1K_V2"])
def test_torchvision_with_named_weights(weights, photo):
    entry = zoo.lookup("torchvision.models:resnet50", {"weights": weights})
    transform = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms()
    np.testing.assert_allclose(apply(entry.preprocess, photo), transform(photo).numpy(), atol=2e-6)
    assert entry.preprocess.resize.shorter_side == 232
    assert "IMAGENET1K_V2" in entry.source


def test_every_torchvision_classifier_is_known():
    for name in torchvision.models.list_models(module=torchvision.models):
        entry = zoo.lookup(f"torchvision.models:{name}")
        assert entry is not None, name
        assert entry.labels == imagenet_labels()


def test_torchvision_knows_what_is_no_classifier():
    assert zoo.lookup("torchvision.models.segmentation:fcn_resnet50") is None
    assert zoo.lookup("torchvision.models.detection:fasterrcnn_resnet50_fpn") is None
    by_name = zoo.lookup("torchvision.models:get_model", {"name": "vgg16", "num_classes": 10})
    assert (by_name.layer, by_name.labels) == ("features.29", None)


@pytest.mark.parametrize(("name", "layer"), from_torchvision.LAYERS.items())
def test_torchvision_layers_come_right_before_the_last_pooling_or_the_class_map(name, layer):
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
    position = int(layer.removeprefix("features."))
    if name.startswith("squeezenet"):
        assert position == len(model.features) - 1
        assert isinstance(model.classifier[1], torch.nn.Conv2d)
    else:
        assert isinstance(model.features[position], torch.nn.ReLU)
        assert isinstance(model.features[position + 1], torch.nn.MaxPool2d)
        assert position + 2 == len(model.features)


# ---- timm


@pytest.mark.parametrize(
    "name",
    [
        "resnet50",
        "resnet50.tv_in1k",
        "timm/mobilenetv3_large_100.ra_in1k",
        "vit_base_patch16_clip_224",
        "convnext_tiny",
        "swin_base_patch4_window12_384",
        "tf_efficientnet_b0.ns_jft_in1k",
        "eva02_base_patch14_448.mim_in22k_ft_in1k",  # squash
    ],
)
def test_timm_preprocessing(name, photo):
    entry = zoo.lookup("timm:create_model", {"model_name": name})
    configuration = timm.get_pretrained_cfg(name.removeprefix("timm/"))
    data = timm.data.resolve_data_config(pretrained_cfg=configuration.to_dict())
    transform = timm.data.create_transform(**data, is_training=False)
    np.testing.assert_allclose(apply(entry.preprocess, photo), transform(photo).numpy(), atol=2e-6)
    assert entry.labels == imagenet_labels()


def test_timm_says_nothing_where_the_contract_has_no_word():
    """dm_nfnet stretches the picture first and crops then."""
    configuration = timm.get_pretrained_cfg("dm_nfnet_f0")
    assert (configuration.crop_mode, configuration.crop_pct < 1) == ("squash", True)
    assert zoo.lookup("timm:create_model", {"model_name": "dm_nfnet_f0"}).preprocess is None
    grey = zoo.lookup("timm:create_model", {"model_name": "resnet18", "in_chans": 1})
    assert grey.preprocess is None


def test_timm_arguments_change_the_answer():
    entry = zoo.lookup(
        "timm:create_model", {"model_name": "resnet18", "num_classes": 7, "img_size": 160}
    )
    assert entry.labels is None
    assert entry.preprocess.size == (160, 160)
    assert entry.preprocess.resize.shorter_side == math.floor(160 / 0.95)
    assert zoo.lookup("timm:create_model", {"model_name": "no_such_model"}) is None
    assert zoo.lookup("timm.models:resnet18").labels == imagenet_labels()


def test_timm_vgg_has_the_layer():
    with torch.device("meta"):
        model = timm.create_model("vgg16")
    layer = zoo.lookup("timm:create_model", {"model_name": "vgg16"}).layer
    position = int(layer.removeprefix("features."))
    assert isinstance(model.features[position], torch.nn.ReLU)
    assert isinstance(model.features[position + 1], torch.nn.MaxPool2d)
    assert position + 2 == len(model.features)


# ---- keras.applications


def test_every_keras_application_is_known():
    ours = set(from_keras.MODELS)
    theirs = {
        name
        for name, value in vars(keras.applications).items()
        if inspect.isfunction(value) and "include_top" in inspect.signature(value).parameters
    }
    assert ours == theirs


class _Stop(Exception):
    pass


@pytest.mark.parametrize("name", from_keras.MODELS)
def test_keras_preprocessing_and_input_size(name, photo, monkeypatch):
    factory = getattr(keras.applications, name)
    module = importlib.import_module(factory.__module__)
    entry = zoo.lookup(f"keras.applications:{name}")

    pixels = np.asarray(photo.resize(entry.preprocess.size, Image.Resampling.NEAREST), np.float32)
    theirs = module.preprocess_input(pixels.copy(), data_format="channels_last")
    if name.startswith("MobileNetV3"):  # its module shares the name, not the behaviour
        theirs = keras.applications.mobilenet_v3.preprocess_input(pixels.copy())
    np.testing.assert_allclose(
        apply(entry.preprocess, photo), theirs.transpose(2, 0, 1), rtol=1e-4, atol=2e-5
    )

    if name.startswith("MobileNetV3"):  # takes any size; its weights are named after theirs
        assert {f"_{entry.preprocess.size[0]}_" in key for key in module.WEIGHTS_HASHES} == {True}
        return
    # Every other asks this function for its input shape: look at what it asks for, and stop.
    sizes = []

    def asked(*args, default_size, **kwargs):
        sizes.append(default_size)
        raise _Stop

    if name == "NASNetMobile":  # it refuses torch before it asks
        monkeypatch.setattr(module.backend, "backend", lambda: "any")
    monkeypatch.setattr(module.imagenet_utils, "obtain_input_shape", asked)
    with pytest.raises(_Stop):
        factory(weights=None)
    assert entry.preprocess.size == (sizes[0], sizes[0])


def test_keras_arguments_change_the_answer():
    entry = zoo.lookup(
        "keras.applications.vgg16:VGG16",
        {"weights": None, "classes": 10, "input_shape": [64, 96, 3]},
    )
    assert entry.preprocess.size == (64, 96)
    assert entry.labels is None
    assert zoo.lookup("keras.applications:VGG16", {"include_top": False}).labels is None
    bare = zoo.lookup("keras.applications:EfficientNetV2B0", {"include_preprocessing": False})
    assert bare.preprocess is None
    assert zoo.lookup("keras.applications:NoSuchModel") is None


@pytest.mark.parametrize(("name", "layer"), from_keras.LAYERS.items())
def test_keras_layers_exist(name, layer):
    model = getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    assert [x.name for x in model.layers][-2:] == [layer, "block5_pool"]


# ---- labels


def test_imagenet_labels_agree_with_both_libraries():
    synsets, names = zip(*(line.split(" ", 1) for line in imagenet_labels()), strict=True)
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    assert list(names) == list(weights.meta["categories"])
    assert list(synsets) == timm.data.ImageNetInfo().label_names()


@pytest.mark.parametrize(
    ("index", "label"),
    [
        (0, "n01440764 tench"),
        (207, "n02099601 golden retriever"),
        (281, "n02123045 tabby"),
        (999, "n15075141 toilet tissue"),
    ],
)
def test_imagenet_labels_known_by_heart(index, label):
    assert imagenet_labels()[index] == label


# ---- what is imported, and what is missing


def test_lookup_imports_no_framework_that_is_not_asked_for():
    code = (
        "import sys; from onnxcam_models import zoo;"
        "assert zoo.lookup('keras.applications:VGG16').labels;"
        "assert zoo.lookup('my.own:model', {}) is None;"
        "assert zoo.lookup('timmy:create_model') is None;"
        "print(sorted({'torch','torchvision','timm','keras','tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"timm is not installed.*pip install"):
        zoo.lookup("timm:create_model", {"model_name": "resnet18"})


def test_loading_gives_models_without_weights():
    resnet = zoo.torchvision_model("resnet18", pretrained=False, num_classes=3)
    assert (resnet.fc.out_features, resnet.training) == (3, False)
    tiny = zoo.timm_model("resnet10t", pretrained=False, num_classes=4)
    assert (tiny.num_classes, tiny.training) == (4, False)
    mobile = zoo.keras_model("MobileNet", pretrained=False, classes=5, input_shape=(64, 64, 3))
    assert mobile.output_shape == (None, 5)
