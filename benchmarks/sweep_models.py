"""Which networks the gradient sweep goes over, and how each is built, with random weights.

Small variants stand first in each family: the architecture decides what the graph contains, the
width only how long it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import Any

CLASSES = 10

# timm: at least one variant of every module that has classifiers, the first of each line first.
_TIMM_FAMILIES = """
beit_base_patch16_224 beitv2_base_patch16_224
halonet26t botnet26t_256 eca_halonext26ts lambda_resnet26t
repvgg_a0 gernet_s mobileone_s0 resnet51q regnetz_b16
cait_xxs24_224
coat_tiny coat_lite_tiny
convit_tiny
convmixer_768_32
convnext_atto convnextv2_atto test_convnext test_convnext2
cpubone_nano cpubone_b0_bfrobust
crossvit_9_240 crossvit_9_dagger_240
csatv2
darknet17 cspresnet50 cs3darknet_s cspdarknet53 cspnext_tiny
davit_tiny
deit_tiny_patch16_224 deit_tiny_distilled_patch16_224 deit3_small_patch16_224
densenet121 densenetblur121d
dla34 dla46_c dla60_res2net
dpn48b dpn68
edgenext_xx_small edgenext_x_small
efficientformer_l1 efficientformerv2_s0
mixnet_s tinynet_e fbnetc_100 mnasnet_small spnasnet_100 mobilenetv1_100 mobilenetv2_050
efficientnet_b0 efficientnet_lite0 efficientnet_es efficientnetv2_rw_t tf_efficientnet_b0
tf_efficientnetv2_b0 mobilenet_edgetpu_v2_xs mobilenetv4_conv_small mobilenetv4_hybrid_medium
test_efficientnet
efficientvim_m1
efficientvit_b0 efficientvit_l1 efficientvit_m0
eva02_tiny_patch14_224 vit_small_patch16_rope_224 vit_small_patch16_dinov3
fasternet_t0
fastvit_t8 fastvit_mci0
focalnet_tiny_srf
gcvit_xxtiny
ghostnet_050 ghostnetv2_100 ghostnetv3_050
hardcorenas_a
hgnet_tiny hgnetv2_b0
hiera_tiny_224 hieradet_small
hrnet_w18_small
iformer_t
inception_next_atto inception_resnet_v2 inception_v3 inception_v4
lcnetv2_small
levit_128s levit_conv_128s
lowformer_b0
mambaout_femto test_mambaout
test_maxvit test_coatnet coatnet_nano_rw_224 maxvit_rmlp_pico_rw_256 coatnext_nano_rw_224
caformer_s18 convformer_s18 poolformer_s12 poolformerv2_s12
mixer_s32_224 resmlp_12_224 gmlp_ti16_224 gmixer_12_224
mobilenetv3_small_050 mobilenetv3_large_075 lcnet_035 fbnetv3_b tf_mobilenetv3_small_minimal_100
mobilenetv5_base
mobilevit_xxs mobilevitv2_050
mvitv2_tiny mvitv2_small_cls
naflexvit_base_patch16_gap
nest_tiny
nextvit_small
test_nfnet nfnet_l0 dm_nfnet_f0 eca_nfnet_l0
pit_ti_224 pit_ti_distilled_224
pvt_v2_b0 pvt_v2_b2_li
rdnet_tiny
regnetx_002 regnety_002 regnetv_040 regnetz_005
repghostnet_050
repvit_m1 repvit_m0_9
res2net50_14w_8s res2next50
resnest14d
resnet10t resnet14t resnet18d resnet26t seresnet18 ecaresnet26t resnetaa34d resnetblur18
test_resnet
resnetv2_18 resnetv2_50d_gn resnetv2_50d_frn resnetv2_50x1_bit
rexnet_100 rexnetr_100
selecsls42
legacy_seresnet18 legacy_seresnext26_32x4d
sequencer2d_s
shvit_s1
skresnet18 skresnext50_32x4d
starnet_s050
swiftformer_xs
swin_tiny_patch4_window7_224 swin_s3_tiny_224 swinv2_tiny_window8_256 swinv2_cr_tiny_ns_224
tiny_vit_5m_224
tnt_s_patch16_224
tresnet_m
twins_svt_small twins_pcpvt_small
vgg11 vgg11_bn
visformer_tiny
test_vit test_vit2 test_vit3 test_vit4 vit_tiny_patch16_224 vit_medium_patch16_gap_240
vit_small_patch16_36x1_224 vit_medium_patch16_reg1_gap_256 vit_tiny_r_s16_p8_224
vit_small_resnet26d_224 flexivit_small
test_vit_relpos vit_relpos_small_patch16_224 vit_srelpos_small_patch16_224
samvit_base_patch16_224
vitamin_small_224
volo_d1_224
vovnet39a ese_vovnet19b_slim eca_vovnet39b
legacy_xception xception41
xcit_nano_12_p16_224
pnasnet5large
nasnetalarge
""".strip().splitlines()
TIMM = [
    name
    for names in zip_longest(*(line.split() for line in _TIMM_FAMILIES))
    for name in names
    if name is not None
]

# Large for what they show: the same blocks, fewer or narrower. Weight files beyond 2 GiB do not
# fit into one protobuf, and a hundred blocks show no more than a few.
SMALL_VIT = {"embed_dim": 192, "num_heads": 3, "depth": 4}
TIMM_ARGUMENTS: dict[str, dict[str, Any]] = {
    "beit_base_patch16_224": SMALL_VIT,
    "beitv2_base_patch16_224": SMALL_VIT,
    "cait_xxs24_224": {"depth": 6},
    "deit3_small_patch16_224": {"depth": 4},
    "vit_small_patch16_rope_224": {"depth": 4},
    "vit_small_patch16_dinov3": {"depth": 4},
    "vit_medium_patch16_gap_240": {"depth": 4},
    "vit_small_patch16_36x1_224": {"depth": 6},
    "vit_medium_patch16_reg1_gap_256": {"depth": 4},
    "flexivit_small": {"depth": 4},
    "vit_relpos_small_patch16_224": {"depth": 4},
    "vit_srelpos_small_patch16_224": {"depth": 4},
    "xcit_nano_12_p16_224": {"depth": 3},
    "pvt_v2_b0": {"depths": (1, 1, 1, 1)},
    "samvit_base_patch16_224": {"embed_dim": 192, "num_heads": 3, "depth": 6},
    "tnt_s_patch16_224": {"depth": 4},
    "naflexvit_base_patch16_gap": SMALL_VIT,
}

# Where the smallest possible side leaves one position at the last layer.
TIMM_SIZES = {"inception_v3": 128, "inception_v4": 160, "levit_128s": 128, "levit_conv_128s": 128}

KERAS = """
Xception VGG16 VGG19 ResNet50 ResNet50V2 InceptionV3 InceptionResNetV2 MobileNet MobileNetV2
MobileNetV3Small MobileNetV3Large DenseNet121 NASNetMobile EfficientNetB0 EfficientNetV2B0
ConvNeXtTiny
""".split()

# Keras itself refuses these on the torch backend: run on TensorFlow, in a process of their own.
KERAS_ON_TENSORFLOW = ("NASNetMobile",)

# Where 64 is too small for a Keras family, or leaves one position at its last layer.
KERAS_SIZES = {"Xception": 96, "InceptionV3": 128, "InceptionResNetV2": 128, "NASNetMobile": 96}


def torchvision_names(torchvision: Any) -> list[str]:
    """Every classification architecture, small ones first."""
    names = torchvision.models.list_models(torchvision.models)
    return sorted(names, key=lambda name: any(mark in name for mark in LARGE))


LARGE = ("_l", "_h_", "gf", "101", "152", "b5", "b6", "b7", "_b", "_m", "_s", "161", "201")


def _vit_h_14(models: Any) -> Any:
    return models.vision_transformer.VisionTransformer(
        image_size=70, patch_size=14, num_layers=6, num_heads=16, hidden_dim=320, mlp_dim=1280,
        num_classes=CLASSES,
    )  # fmt: skip


def _regnet_y_128gf(models: Any) -> Any:
    parameters = models.regnet.BlockParams.from_init_params(
        depth=27, w_0=48, w_a=16.0, w_m=2.52, group_width=24, se_ratio=0.25
    )
    return models.regnet.RegNet(parameters, num_classes=CLASSES)


# Beyond protobuf's 2 GiB as they are: the same architecture, narrower.
NARROWED: dict[str, Callable[[Any], Any]] = {
    "vit_h_14": _vit_h_14,
    "regnet_y_128gf": _regnet_y_128gf,
}

# torchvision's transformers and Inception want their own size.
TORCHVISION_SIZES = {"inception_v3": 128, "alexnet": 96, "maxvit_t": 224, "vit_h_14": 70}
