"""What the tests of the examples in other languages share."""

from __future__ import annotations

import importlib.util
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers_explaining import HandMade
from helpers_native import built
from onnxcam import Engine
from onnxcam.native.loader import Library, LibraryError
from onnxcam.native.targets import host_target

EXAMPLES = Path(__file__).parents[1] / "examples"


def library_folder(tmp_path_factory: Any) -> Path:
    """Where libonnxcam and its header lie: the package's own, or built here."""
    try:
        return Library().path.parent
    except LibraryError:
        host = host_target()
        if host is None or importlib.util.find_spec("ziglang") is None:
            pytest.skip("no libonnxcam here, and ziglang or a target for this machine is missing")
        assert host is not None
        return built(host.name, tmp_path_factory).parent


def onnxruntime_library() -> Path:
    """The library inside of Python's onnxruntime."""
    spec = importlib.util.find_spec("onnxruntime")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "capi"
    found = sorted(folder.glob("libonnxruntime.so*"))
    if not found:
        pytest.skip("this build of onnxruntime has no libonnxruntime.so")
    return found[0]


@dataclass(frozen=True)
class Case:
    """A model and a picture as files, and where the overlay is to go."""

    model: Path
    picture: Path
    out: Path

    @property
    def words(self) -> list[Path]:
        return [self.model, self.picture, self.out]

    def expected(self, target: int = -1, method: str = "gradcam") -> Any:
        """The Python engine's result."""
        return Engine(self.model).explain(self.picture, target=target, method=method)

    def painted(self) -> Any:
        return np.asarray(Image.open(self.out))


def case(folder: Path, model: HandMade | bytes, height: int = 37, width: int = 53) -> Case:
    """Of a hand-made model, and a picture of noise."""
    content = model if isinstance(model, bytes) else model.bytes()
    found = Case(folder / "a.cam.onnx", folder / "a.ppm", folder / "out.ppm")
    found.model.write_bytes(content)
    random = np.random.default_rng(height * width)
    Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(found.picture)
    return found


def check_refused(command: list[Any], word: str, folder: Path, **options: Any) -> None:
    """Exit status 2, one line on stderr with `word` in it, and no new file."""
    before = sorted(folder.iterdir())
    command = list(map(str, command))
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 2, (command, done.returncode, done.stderr)
    # Java itself warns of its incubating module.
    lines = [line for line in done.stderr.splitlines() if not line.startswith("WARNING: Using")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("explain: "), done.stderr
    assert word in lines[0], (command, done.stderr)
    assert sorted(folder.iterdir()) == before
