"""What one run at a time needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from onnxcam.attribution import Attribution, attribute
from onnxcam.binding import Binding
from onnxcam.buffers import Buffers, Place, new_array
from onnxcam.model import Model
from onnxcam.ready import ReadyReduction


class Workspace:
    """A binding, buffers, and reductions that are ready. Not for two threads at once."""

    def __init__(self, model: Model) -> None:
        self.binding = Binding(model.session)
        self.buffers = Buffers()
        self._model = model
        self._ready: dict[Any, ReadyReduction | None] = {}
        self._ready_for: Mapping[str, NDArray[Any]] | None = None

    def attribute(
        self,
        outputs: Mapping[str, NDArray[Any]],
        method: str | None,
        layer: int,
        *,
        own: tuple[str, ...] = (),
        place: Place = new_array,
    ) -> Attribution:
        """As :func:`onnxcam.attribution.attribute`, in buffers; `place` gives the arrays `own`.

        Raises:
            ModelError: the outputs' shapes do not fit together.
        """
        if self.stays(outputs) and outputs is not self._ready_for:
            self._ready, self._ready_for = {}, outputs
        key = method, layer, own
        ready = self._ready.get(key) if outputs is self._ready_for else None
        if ready is not None:
            return ready(place)

        def among_buffers(name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
            return (place if name in own else self.buffers)(name, shape, dtype)

        model = self._model
        found = attribute(
            outputs,
            model.contract.emit,
            method,
            layer,
            several=model.targets_per_image is not None,
            place=among_buffers,
        )
        if outputs is self._ready_for and key not in self._ready:
            self._ready[key] = ReadyReduction.of(outputs, found, own)
        return found

    def stays(self, outputs: Mapping[str, NDArray[Any]]) -> bool:
        """Whether the next run overwrites these outputs."""
        return outputs is self.binding.outputs
