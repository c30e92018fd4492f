"""Build hook: the compiled kernels go into the wheel, or beside the sources of an editable install.

They are built for the machine that builds and as WebAssembly (for `onnxcam web` and the npm
package), in about a minute and without a compiler. Where that is not possible the wheel is a
pure one, whose kernels Numba compiles at run time.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
FOLDER = "onnxcam/native/lib"
REQUIREMENTS = ["numba>=0.62", "ziglang>=0.13"]

sys.path.insert(0, str(ROOT / "engine"))  # the package is not installed yet


class NativeLibrary(BuildHookInterface):  # type: ignore[type-arg]
    """Builds `libonnxcam` for wheels and editable installs."""

    _temporary: tempfile.TemporaryDirectory[str] | None = None

    def dependencies(self) -> list[str]:
        """What the build needs here; nothing where it can't succeed, so that it is not a must."""
        from onnxcam.native.targets import host_target

        return [] if host_target() is None else REQUIREMENTS

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and say what goes into the wheel, and for which machines it is."""
        from onnxcam.errors import OnnxcamError
        from onnxcam.native.build import build_several
        from onnxcam.native.targets import find_target

        if self.target_name != "wheel":
            return
        editable = version == "editable"
        place = ROOT / "engine" / FOLDER
        if not editable:
            self._temporary = tempfile.TemporaryDirectory()
            place = Path(self._temporary.name)
        try:
            target = find_target(None)
            built = build_several({target: place, find_target("wasm32"): place})
        except (OnnxcamError, OSError) as error:
            self.app.display_warning(
                f"the kernels were not compiled ahead of time: {error}. "
                "They need numba at run time: pip install 'onnxcam[jit]'"
            )
            if importlib.util.find_spec("numba"):  # here, so on the wheel's machine too
                build_data["dependencies"].append("numba>=0.59")
            return
        if not editable:
            for path in {path for both in built.values() for path in both}:
                build_data["force_include"][str(path)] = f"{FOLDER}/{path.name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{target.tag}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the folder that the wheel's files came from."""
        if self._temporary is not None:
            self._temporary.cleanup()
