"""Running a session into the same memory every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.errors import ModelError
from onnxcam.native.loader import address
from onnxcam.session import Session

_Shapes = tuple[tuple[str, ...], tuple[tuple[str, tuple[int, ...], np.dtype[Any]], ...]]


class Binding:
    """Runs a session; outputs of the same shape land in the same arrays, run after run.

    The first run for the shapes of some inputs is an ordinary one, which tells the outputs'
    shapes; from then on onnxruntime writes into arrays that were handed to it. Where it does not
    want to (shapes that depend on values, outputs that are no arrays) every run is an ordinary one.
    Not for two threads at once.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._bound: Any = None
        self.outputs: dict[str, NDArray[Any]] = {}  # where those of bound runs land
        self._shapes: _Shapes | None = None
        self._bound_at: dict[str, int] = {}  # inputs' addresses
        self._unsuitable = False

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """As :meth:`onnxcam.session.Session.run`; the arrays are overwritten by the next run."""
        shapes = (tuple(outputs), tuple((k, v.shape, v.dtype) for k, v in feeds.items()))
        bound = shapes == self._shapes and not self._unsuitable
        if bound:
            try:
                self._run_bound(feeds)
                return self.outputs
            except ModelError:
                pass  # bad input fails below as well, with its own message
        found = self._session.run(feeds, outputs)
        self._unsuitable |= bound or not all(isinstance(v, np.ndarray) for v in found.values())
        if not self._unsuitable:
            self.outputs = {name: np.empty_like(value) for name, value in found.items()}
            self._bound = self._session.bind(self.outputs)
            self._shapes = shapes
            self._bound_at = {}
        return found

    def _run_bound(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        before, self._bound_at = self._bound_at, {}
        at = {name: address(array) for name, array in feeds.items()}
        changed = ((k, v, at[k]) for k, v in feeds.items() if before.get(k) != at[k])
        self._session.run_bound(self._bound, changed)
        # To another device an input is copied when it is bound: there each run has to bind it.
        if self._session.on_cpu:
            self._bound_at = at
