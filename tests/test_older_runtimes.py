"""The table of benchmarks/older_runtimes.py: what is called the same, and failures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

import older_runtimes

TITLES = {"00": "a network", "01": "another"}


def result(scale=1.0, failures=None, numpy="2.4.6"):
    arrays = {
        "00/y": np.float32([1, -4]) * scale,
        "00/maps": np.ones((1, 2, 2)),
        "01/y": np.ones(3),
    }
    return {
        "failures": failures or {},
        "arrays": arrays,
        "versions": {"numpy": numpy, "python": "3.11.7"},
    }


def rows(**results):
    text = older_runtimes.table(TITLES, {k.replace("_", "."): v for k, v in results.items()})
    lines = text.splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines], text


def test_what_agrees_and_what_does_not():
    found, text = rows(
        **{"1_17_0": result(1 + 1e-6, numpy="1.26.0"), "1_18_1": result(1.5), "1_32_0": result()}
    )
    assert found[0] == ["file", "1.17", "1.18", "1.32", "largest difference"]
    assert found[2][:4] == ["a network", "yes", "no (1)", "yes"]
    assert found[2][4] == "5e-01"
    assert found[3] == ["another", "yes", "yes", "yes", "0e+00"]
    assert found[4][1] == "1.26"
    assert "(1) differs from 1.32.0 by 0.5" in text


def test_failures_are_notes_and_not_compared():
    failed = result(failures={"00": "too new", "01/engine": "ModelError: no"})
    del failed["arrays"]["00/y"], failed["arrays"]["00/maps"]
    found, text = rows(**{"1_17_0": failed, "1_32_0": result()})
    assert [row[1] for row in found[2:4]] == ["no (1)", "no (2)"]
    assert "(1) too new" in text and "(2) ModelError: no" in text


def test_another_shape_is_a_difference():
    other = result()
    other["arrays"]["01/y"] = np.ones(4)
    found, _ = rows(**{"1_17_0": other, "1_32_0": result()})
    assert found[3][1] == "no (1)"


def test_a_version_that_cannot_be_installed_is_said(tmp_path, monkeypatch):
    import subprocess

    def fails(command, **_):
        raise subprocess.CalledProcessError(1, command, stderr="a\nno such version\n")

    (tmp_path / "models").mkdir()
    monkeypatch.setattr(subprocess, "run", fails)
    assert older_runtimes.measure(tmp_path, "9.9.9") == "no such version"


def test_reasons_lose_their_codes_and_paths():
    error = RuntimeError(
        "[ONNXRuntimeError] : 1 : FAIL : Load model from /x/03.onnx failed:/src/model.cc:179 "
        "onnxruntime::Model::Model(const onnxruntime::ModelOptions&) Unsupported model IR version"
    )
    assert older_runtimes._reason(error) == "Unsupported model IR version"
    plain = RuntimeError("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Gather: out of bounds\nmore")
    assert "Gather: out of bounds" in older_runtimes._reason(plain)
