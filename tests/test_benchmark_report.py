"""The report of benchmarks/results.py: records kept, figures found in what programs print."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

from against_records import Records, compare, measure
from results_report import BARS, as_markdown, cell, printed, without_paths, write_report

SETTINGS = {
    "key": "settings",
    "quick": True,
    "threads": 1,
    "processor": "P",
    "cores": 2,
    "memory": "8 GiB",
    "system": "Linux",
    "kernels": "libonnxcam",
    "load": 0.5,
    "versions": {"numpy": "2"},
}
TABLE = """kernels: /somebody/at/home/libonnxcam.so; map 7x7
| picture | painted | us | levels off | NumPy+OpenCV / this | this / np.copyto |
|---|---|---|---|---|---|
| 1280x720 | JET | 300 | 2 | 7.25 (7.90) | 1.75 (1.60) |
| 1280x720 | table | 400 | 1 | 5.00 (5.10) | 2.75 (2.60) |
"""
COLD = """                    ms  wall                processor            MiB   more
onnxruntime, array         900  1.00 (1.00..1.00)   1.00 (1.00..1.00)    150    0.0
onnxcam, picture to overlay    990  1.10 (1.05..1.20)   1.08 (1.00..1.10)    170   19.5
the same, kernels by Numba   1990  2.20 (1.05..1.20)   1.08 (1.00..1.10)    170   95.5
"""


def measured(**medians: float) -> dict:
    def spread(value: float) -> dict[str, float]:
        return {"median": value, "lower": 0.9 * value, "upper": 1.1 * value}

    times = {"onnxcam": 10.0, "onnxruntime, plain forward": 9.5, **medians}
    return {
        "base": "onnxcam",
        "rounds": 7,
        "milliseconds": {name: spread(value) for name, value in times.items()},
        "ratios": {name: spread(value / 10) for name, value in times.items()},
        "checked": {name: {"difference": 1e-6, "correlation": 1.0} for name in medians},
        "skipped": {"captum": "not installed"},
    }


def test_records_survive_an_interruption(tmp_path):
    path = tmp_path / "results.jsonl"
    records = Records(path)
    records.add({"key": "a", "value": 1})
    records.add({"key": "b", "value": 2})
    with path.open("a") as stream:
        stream.write('{"key": "c", "val')
    again = Records(path)
    assert "a" in again and "b" in again and "c" not in again
    assert again.by_key["b"]["value"] == 2
    again.add({"key": "d", "value": 4})
    assert set(Records(path).by_key) == {"a", "b", "d"}


def test_measure():
    calls = []
    record = measure({"x": lambda: calls.append("x"), "y": lambda: calls.append("y")}, 0.001, "x")
    assert record["rounds"] >= 5
    assert calls.count("x") == calls.count("y") == 2 * record["rounds"] + 2
    assert record["ratios"]["x"] == {"median": 1, "lower": 1, "upper": 1}
    assert json.loads(json.dumps(record)) == record


def test_compare():
    one = np.array([0.0, 0.5, 1.0])
    assert compare(one, one) == pytest.approx({"difference": 0, "correlation": 1})
    assert compare(one, 1 - one) == pytest.approx({"difference": 1, "correlation": -1})
    with pytest.raises(ValueError, match="shapes differ"):
        compare(one, one[:2])


def test_figures_are_found_in_tables():
    records = {"rendering": {"text": TABLE}, "cold start": {"text": COLD}}
    assert cell("rendering", 4, "1280x720", "JET")(records) == 7.25
    assert cell("rendering", 5, "1280x720", "table")(records) == 2.75
    assert cell("rendering", 4, "224x224", "JET")(records) is None
    assert cell("engine", 4, "1280x720")(records) is None
    assert printed("rendering", r"map (\d+)x")(records) == 7
    found = {what: find(records) for what, _, _, _, find in BARS}
    assert found["overlay 1280x720 over np.copyto, JET"] == 1.75
    start = "start to first overlay over start to first plain prediction, ResNet-18"
    assert found[start] == 1.10
    assert found["memory beyond onnxruntime's own"] == 19.5
    assert found["torchcam, end to end, ResNet-50"] is None


def test_no_paths():
    text = without_paths("from /home/somebody/x/libonnxcam.so, 0.6/0.4, maps / plain, and/or")
    assert text == "from libonnxcam.so, 0.6/0.4, maps / plain, and/or"


def test_tables_stay_tables_and_columns_become_code():
    found = as_markdown(TABLE)
    assert found.startswith("kernels: libonnxcam.so; map 7x7\n\n| picture |")
    assert "```" not in found
    assert as_markdown(COLD).startswith("```\n")
    assert as_markdown(COLD).endswith("\n```")


def test_report(tmp_path):
    records = {
        "settings": SETTINGS,
        "torch/resnet50/end to end": measured(**{"pytorch-grad-cam": 60.0, "torchcam": 15.0}),
        "torch/resnet50/ten classes": measured(**{"pytorch-grad-cam, a call each": 700.0}),
        "rendering": {"key": "rendering", "text": TABLE},
        "keras on tensorflow": {"key": "keras on tensorflow", "reason": "not installed"},
    }
    paths = write_report(records, tmp_path)
    assert [path.name for path in paths] == ["RESULTS.md", "results-resnet50.svg"]
    text = paths[0].read_text()
    lines = text.splitlines()
    assert "| pytorch-grad-cam, end to end, ResNet-50 | >= 5 x | 6 x | yes |" in lines
    assert "| torchcam, end to end, ResNet-50 | >= 2 x | 1.5 x | no |" in lines
    assert "| captum, end to end, ResNet-50 | >= 2 x |  |  |" in lines
    assert "| overlay 1280x720 over np.copyto, a table | <= 2.5 x | 2.75 x | no |" in lines
    assert "| largest difference from OpenCV's pixels | <= 2 levels | 2 levels | yes |" in lines
    assert "- keras on tensorflow: not installed" in lines
    assert "- captum: not installed" in lines
    assert "A quick run" in text
    assert "/home" not in text and "/somebody" not in text
    before = paths[1].read_bytes()
    assert write_report(records, tmp_path)[1].read_bytes() == before
