"""An explaining file, loaded: the graph read with the eyes of its contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxcam.contract import (
    HIGHEST_SCORE,
    OUTPUTS_OF_EMIT,
    SCORE,
    TARGET,
    Contract,
    output_name,
)
from onnxcam.errors import ContractError, InputError, LayerError, ModelError, TargetError
from onnxcam.scores import as_rows, count_classes
from onnxcam.session import Session, TensorInfo
from onnxcam.targets import check_range

Arrays: TypeAlias = dict[str, NDArray[Any]]
# Session.run, or Binding.run
Runner: TypeAlias = Callable[[Mapping[str, NDArray[Any]], Sequence[str]], Arrays]

_EXPORT_HINT = "make one with 'onnxcam export', or pass contract="


class Model:
    """A session and its contract, checked against each other; shared between threads.

    `classes` is their number, None where the file does not say it. `targets_per_image` is None for
    a target input [N] (or none at all); K for [N, K], 0 where K is open. `further_inputs` are the
    names of the inputs beside picture and target.

    Raises:
        ContractError: the file has no contract and none is given, or it contradicts the graph.
    """

    def __init__(self, session: Session, contract: Contract | None) -> None:
        self.session = session
        self.contract = contract or _own_contract(session)
        self._check_graph()
        self.picture_input: TensorInfo = session.inputs[self.contract.picture.name]
        self._check_dtype()
        self.classes = count_classes(session.outputs[self.contract.output.name])
        info = session.inputs.get(TARGET)
        open_or_k = None if info is None or len(info.shape) < 2 else info.shape[1] or 0
        self.targets_per_image: int | None = open_or_k
        own = (self.contract.picture.name, TARGET)
        self.further_inputs = [name for name in session.inputs if name not in own]
        layers = range(len(self.contract.layers))
        added = {name for index in layers for name in self.cam_outputs(index)} | {SCORE}
        self.own_outputs = [name for name in session.outputs if name not in added]
        scored = [*self.own_outputs, self.contract.output.name]
        self._run_outputs = [list(dict.fromkeys([*scored, *self.cam_outputs(i)])) for i in layers]

    def cam_outputs(self, layer: int) -> list[str]:
        """The outputs that explain the layer of that number."""
        return [output_name(base, layer) for base in OUTPUTS_OF_EMIT[self.contract.emit]]

    def find_layer(self, layer: int | str | None) -> int:
        """The number of one of the file's layers, given by number, name, or None for the first.

        A name that is a number is taken for one where no layer is called so.

        Raises:
            LayerError: the file has no such layer.
        """
        layers = self.contract.layers
        if layer is None:
            return 0
        if isinstance(layer, str):
            for index, each in enumerate(layers):
                if layer in (each.name, each.tensor):
                    return index
            if layer.isascii() and layer.isdigit() and int(layer) < len(layers):
                return int(layer)
        elif isinstance(layer, int) and not isinstance(layer, bool) and 0 <= layer < len(layers):
            return layer
        known = ", ".join(f"{i} '{each.title}'" for i, each in enumerate(layers))
        raise LayerError(f"layer {layer!r}: {self.session.title} explains {known}")

    def named_inputs(self, inputs: Mapping[str, NDArray[Any]] | None) -> Arrays:
        """The model's inputs beside picture and target, all there and none more.

        Raises:
            InputError: one is missing or unknown.
        """
        needed = self.further_inputs
        if not needed and not inputs:
            return {}
        given = {name: np.asarray(value) for name, value in (inputs or {}).items()}
        missing = [name for name in needed if name not in given]
        if missing:
            raise InputError(
                f"{self.session.title} takes further inputs: give {', '.join(missing)} in inputs="
            )
        unknown = [name for name in given if name not in needed]
        if unknown:
            known = ", ".join(needed) or "none"
            raise InputError(f"inputs: no further input '{unknown[0]}'; the model's are {known}")
        return given

    def checked_inputs(self, further: Arrays) -> Arrays:
        """The same, contiguous.

        Raises:
            InputError: another shape or dtype, or values that are not finite.
        """
        for name, value in further.items():
            self.session.inputs[name].check(value)
        return {name: np.ascontiguousarray(value) for name, value in further.items()}

    def run(
        self,
        feeds: Arrays,
        targets: NDArray[np.int64],
        names: Sequence[str],
        runner: Runner | None = None,
    ) -> Arrays:
        """The named outputs for checked inputs and targets in the form that the file takes.

        Raises:
            ModelError: the run fails.
            TargetError: a target that the file can't explain.
        """
        run = runner or self.session.run
        if TARGET in self.session.inputs:
            if not self.session.on_cpu:
                # Other providers look no indices up in a table that is too short: they give NaN.
                self._blame_target(feeds, targets)
            try:
                return run({**feeds, TARGET: targets}, names)
            except ModelError:
                self._blame_target(feeds, targets)
                raise
        if (targets != HIGHEST_SCORE).any():
            raise TargetError(
                f"target: {self.session.title} has no input '{TARGET}' and always explains the "
                "highest score"
            )
        return run(feeds, names)

    def run_for_classes(
        self, feeds: Arrays, targets: NDArray[np.int64], layer: int, runner: Runner | None = None
    ) -> tuple[Arrays, NDArray[np.int64]]:
        """All outputs for targets [N, k], and which class every map is for, [N, k]."""
        names = self._run_outputs[layer]
        outputs = self.run(feeds, self._as_input(targets), names, runner)
        if HIGHEST_SCORE not in targets.ravel().tolist():  # a few: NumPy takes longer
            return outputs, targets
        wanted = targets == HIGHEST_SCORE
        scores = as_rows(outputs[self.contract.output.name], self.contract.output)
        best = scores.argmax(axis=1)[:, None]
        chosen = np.where(wanted, best, targets)
        # Where several classes share the highest output (probabilities saturated to 1), the
        # graph may have decided between their logits otherwise: ask for the class by index.
        highest = np.take_along_axis(scores, best, axis=1)
        ties = (scores == highest).sum(axis=1, keepdims=True) > 1
        if TARGET in self.session.inputs and (ties & wanted).any():
            outputs = self.run(feeds, self._as_input(chosen), names, runner)
        return outputs, chosen

    def _as_input(self, targets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Targets [N, k] as the model takes them: [N], or [N, K], the last one repeated."""
        per_image = self.targets_per_image
        if per_image is None:
            return np.ascontiguousarray(targets[:, 0])
        missing = (per_image or targets.shape[1]) - targets.shape[1]
        return np.concatenate([targets, np.repeat(targets[:, -1:], missing, axis=1)], axis=1)

    def _blame_target(self, feeds: Arrays, targets: NDArray[np.int64]) -> None:
        """Raise TargetError if a target is out of range in a file that does not say its classes."""
        if self.classes is not None or (targets == HIGHEST_SCORE).all():
            return
        output = self.contract.output
        highest = np.full_like(targets, HIGHEST_SCORE)
        found = self.session.run({**feeds, TARGET: highest}, [output.name])
        scores = as_rows(found[output.name], output)
        check_range(int(targets.max()), scores.shape[1])

    def _check_graph(self) -> None:
        contract, session = self.contract, self.session
        if contract.picture.name not in session.inputs:
            raise ContractError(_absent("input", contract.picture.name, session.inputs))
        explaining = [n for i in range(len(contract.layers)) for n in self.cam_outputs(i)]
        for name in (contract.output.name, *explaining):
            if name not in session.outputs:
                raise ContractError(_absent("output", name, session.outputs))

    def _check_dtype(self) -> None:
        info, contract = self.picture_input, self.contract
        if info.dtype is None or info.dtype.name != contract.picture.dtype:
            raise ContractError(
                f"contract: input '{info.name}' is {contract.picture.dtype}, the graph says "
                f"{info.dtype}"
            )


def _own_contract(session: Session) -> Contract:
    text = session.metadata
    if text is None:
        raise ContractError(
            f"{session.title} is not an explaining file (it has no contract); " + _EXPORT_HINT
        )
    return Contract.loads(text)


def _absent(kind: str, name: str, present: Any) -> str:
    return f"contract: the graph has no {kind} '{name}'; it has {', '.join(present)}"
