"""The command line as a user meets it: in its own process."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import onnxcam
from helpers_explaining import HandMade
from onnxcam.cli import SUBCOMMANDS, main


def run(*words: str, cwd=None, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "onnxcam", *words]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, cwd=cwd, env=env, check=False)


def test_version():
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().strip() == f"onnxcam {onnxcam.__version__}"


def test_help(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in SUBCOMMANDS)
    assert main(["explain", "--help"]) == 0
    assert "--save-map" in capsys.readouterr().out
    assert main(["nonsense"]) == 2


@pytest.fixture
def folder(tmp_path):
    labels = ("Käse", "猫", "c", "d", "e")
    (tmp_path / "model.onnx").write_bytes(HandMade(labels=labels).bytes())
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "ä.png")
    return tmp_path


def test_a_terminal_that_only_knows_ascii(folder):
    done = run("explain", "model.onnx", "ä.png", cwd=folder, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"K\xe4se" in done.stdout


def test_a_reader_that_leaves(folder):
    command = f'"{sys.executable}" -m onnxcam explain model.onnx ä.png | true'
    done = subprocess.run(command, shell=True, capture_output=True, cwd=folder, check=False)
    assert done.stderr == b""


def test_errors_leave_no_traceback(folder):
    done = run("explain", "model.onnx", "none.png", cwd=folder)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.decode().splitlines() == [
        "onnxcam explain: picture 'none.png': no such file"
    ]
