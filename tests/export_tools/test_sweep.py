"""A representative part of `benchmarks/sweep_gradients.py`: architectures against autograd."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

# Each shows what the others don't; small, and exported by torch's older exporter for its speed.
NETWORKS = [
    ("timm", "test_resnet"),  # residuals, MaxPool
    ("torchvision", "squeezenet1_1"),  # a class map; Concat; overlapping MaxPool with ceil_mode
    ("torchvision", "mobilenet_v3_small"),  # HardSwish, gates, a head behind pooling
    ("timm", "test_vit"),  # a class token
    ("timm", "test_vit3"),  # pooling by attention
    ("timm", "test_convnext"),  # layer norm, channels last
    ("timm", "test_efficientnet"),  # SiLU, gates
    ("timm", "test_nfnet"),  # standardised weights
    ("timm", "test_maxvit"),  # windows and grids, relative positions
    ("timm", "xcit_nano_12_p16_224"),  # attention over channels, L2 norms
    ("timm", "pvt_v2_b0"),  # tokens back on the grid between stages
    ("timm", "gmlp_ti16_224"),  # products of activations, mixing along tokens
]
EXPECTED = {
    "Add", "AveragePool", "Clip", "Concat", "Conv", "Div", "Erf", "Gemm", "GlobalAveragePool",
    "HardSigmoid", "HardSwish", "LayerNormalization", "MatMul", "MaxPool", "Mul", "ReduceL2",
    "ReduceMean", "Relu", "Reshape", "Sigmoid", "Slice", "Softmax", "Split", "Transpose",
}  # fmt: skip

_operators: dict[str, set[str]] = {}


@pytest.fixture(scope="module")
def sweep() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import sweep_gradients

        yield sweep_gradients
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize(("library", "name"), NETWORKS, ids=[name for _, name in NETWORKS])
def test_gradients_of_an_architecture(sweep, library, name):
    row: dict[str, Any] = {"exporter": "torchscript"}
    torch.manual_seed(0)
    sweep.compare(library, name, None, row)
    _operators[name] = set(row["operators"])
    assert row["exporter"] == "torchscript", "the exporter failed"
    assert row["default logit"] <= 1e-4
    assert row["default probability"] <= 1e-4
    assert sweep.sweep_report.verdict(row) == "ok", row


def test_the_part_is_representative():
    """Needs the whole file: every operator listed lies between some layer and its score."""
    if len(_operators) < len(NETWORKS):
        pytest.skip("only a part of the networks ran")
    assert set().union(*_operators.values()) >= EXPECTED


def test_a_wrong_gradient_misses_its_bar(sweep):
    """The sweep's own arithmetic: errors by picture, medians, verdicts."""
    import numpy as np

    exact = np.zeros((3, 2, 4, 4))
    exact[:, 0, 1, 1] = [1.0, 10.0, 100.0]
    assert sweep.by_picture(exact, exact) == [0, 0, 0]
    off = exact.copy()
    off[1, 1, 0, 0] = 1.0
    assert sweep.by_picture(off, exact) == pytest.approx([0, 0.1, 0])
    assert sweep.relative(off, exact) == pytest.approx(0.1)
    good = {
        "largest": 1.0, "third largest": 1.0, "default logit": 1e-7, "default probability": 1e-6,
        "third logit": 1e-2, "third logit 64": [2e-2, 1e-2],
    }  # fmt: skip
    verdict = sweep.sweep_report.verdict
    assert verdict(good) == "ok"
    assert "zero" in verdict({**good, "largest": 0.0})
    assert "default logit" in verdict({**good, "default logit": 2e-4})
    assert "one third" in verdict({**good, "third logit 64": [4e-2, 1e-2]})
    assert "one third" in verdict({**good, "third logit 64": None})
    assert verdict({**good, "error": "export: no"}) == "export: no"
