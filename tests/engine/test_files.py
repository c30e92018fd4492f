from __future__ import annotations

import os
import stat

import pytest

from onnxcam.files import atomic


def test_appears_when_whole(tmp_path):
    path = tmp_path / "a.bin"
    with atomic(path) as stream:
        stream.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(stream):
        stream.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), atomic(path) as stream:
        fail(stream)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_has_the_usual_permissions(tmp_path):
    usual, written = tmp_path / "usual", tmp_path / "written"
    usual.write_bytes(b"")
    with atomic(written):
        pass
    assert stat.S_IMODE(written.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "none" / "a"):
        pass
