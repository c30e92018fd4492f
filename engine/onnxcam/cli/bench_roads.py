"""What `onnxcam bench` times: sessions and engine of one explaining file, with the same input."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnxcam.attribution import attribute
from onnxcam.buffers import Buffers
from onnxcam.cli.bench_inputs import make_inputs
from onnxcam.cli.explain import read_inputs
from onnxcam.cli.providers_option import starting_providers
from onnxcam.contract import TARGET
from onnxcam.engine import Engine
from onnxcam.errors import InputError
from onnxcam.model import Arrays
from onnxcam.painting import overlay
from onnxcam.pictures import Pixels, open_picture
from onnxcam.providers import parse_providers
from onnxcam.session import Session
from onnxcam.targets import check_targets

_SAME = 1e-2  # of the largest value: a plain model that differs more is another model

PLAIN, OWN_ONLY = "plain", "own outputs only"
EXPLAINING, POST, MAPS, OVERLAY, PICTURE = (
    "explaining",
    "post-processing",
    "array in, map out",
    "overlay",
    "picture in, overlay out",
)


class Bench:
    """Engine, input and the functions to time; the sessions have run once and agree.

    `roads` are the functions by name: the plain model, or the explaining one asked for its own
    outputs only; the explaining one; the reduction of its outputs to maps; the engine, array in
    and map out; painting a map; the engine, picture in and overlay out. The last two are left out
    for maps that are not two-dimensional, the last one where nobody says how to prepare pictures.
    `tensor` is the picture input, `picture` what is painted on (None: nothing is).

    Raises:
        OnnxcamError: a file, picture or array that can't be read or does not fit.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        providers = parse_providers(args.providers)
        with starting_providers(args.providers):
            self.engine = Engine(
                args.model,
                providers=providers,
                threads=args.threads,
                method=args.method,
                preprocess=args.preprocess,
            )
            plain = Session(args.plain, providers, args.threads) if args.plain else None
        self.layer = self.engine.find_layer(args.layer)
        self.picture: Pixels | None = open_picture(Path(args.picture)) if args.picture else None
        self.tensor, self._further = make_inputs(
            self.engine, read_inputs(args.input), self.picture, args.batch
        )
        self.roads: dict[str, Callable[[], object]] = {}
        self._add_sessions(plain)
        maps = self._maps()
        self.roads[MAPS] = lambda: self._maps(maps)
        if maps.ndim - (self.engine.model.targets_per_image is not None) == 3:
            self._add_painting(maps.reshape(-1, *maps.shape[-2:])[0])

    def _maps(self, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        return self.engine.maps(self.tensor, layer=self.layer, inputs=self._further, out=out)

    def _add_sessions(self, plain: Session | None) -> None:
        model = self.engine.model
        feeds = {model.contract.picture.name: self.tensor, **self._further}
        targets = check_targets(None, len(self.tensor), model.targets_per_image, model.classes)
        asked = {**feeds, TARGET: targets} if TARGET in model.session.inputs else feeds
        names = [*model.own_outputs, *model.cam_outputs(self.layer)]
        outputs = model.session.run(asked, names)
        if plain is None:
            own = model.own_outputs or names
            self.roads[OWN_ONLY] = lambda: model.session.run(asked, own)
        else:
            fed, wanted = _fitting(plain, feeds, model.contract.picture.name), list(plain.outputs)
            _check_same(plain, plain.run(fed, wanted), outputs)
            self.roads[PLAIN] = lambda: plain.run(fed, wanted)
        self.roads[EXPLAINING] = lambda: model.session.run(asked, names)
        emit, method, buffers = model.contract.emit, self.engine.method, Buffers()
        several = model.targets_per_image is not None
        self.roads[POST] = lambda: attribute(
            outputs, emit, method, self.layer, several=several, place=buffers
        )

    def _add_painting(self, heatmap: NDArray[np.float32]) -> None:
        pixels = self.picture
        if pixels is None:
            channels_first = self.engine.contract.picture.layout == "NCHW"
            size = self.tensor.shape[2:] if channels_first else self.tensor.shape[1:3]
            pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        self.picture = picture = pixels
        painted = np.empty_like(picture)
        self.roads[OVERLAY] = lambda: overlay(heatmap, picture, out=painted)
        if self.engine.preprocess is not None:
            pictures = [picture] * len(self.tensor)
            self.roads[PICTURE] = lambda: self._explain(pictures)

    def _explain(self, pictures: list[Pixels]) -> list[Pixels]:
        results = self.engine.explain(pictures, layer=self.layer, inputs=self._further)
        return [result.overlay() for result in results]


def _fitting(plain: Session, feeds: Arrays, picture: str) -> Arrays:
    """The same values under the plain file's names; a sole input may be called otherwise."""
    if len(plain.inputs) == 1 and picture not in plain.inputs:
        fed = {next(iter(plain.inputs)): feeds[picture]}
    else:
        fed = {name: feeds[name] for name in plain.inputs if name in feeds}
    missing = [name for name in plain.inputs if name not in fed]
    if missing:
        raise InputError(
            f"--plain: {plain.title} takes '{missing[0]}', which the explaining file does not; "
            "give the file that it was made of"
        )
    for name, value in fed.items():
        info = plain.inputs[name]
        if value is feeds[picture] and value.dtype == np.uint8 and info.dtype != np.uint8:
            raise InputError(
                f"--plain: the explaining file takes bytes, {plain.title} {info.dtype}: the two "
                "can't be fed the same; compare a file exported with --input model"
            )
        info.check(value)
    return fed


def _check_same(plain: Session, found: Arrays, explained: Arrays) -> None:
    """Raise InputError unless outputs of the same name are the same, up to rounding."""
    shared = [name for name in found if name in explained and _is_numbers(found[name])]
    if not shared:
        raise InputError(
            f"--plain: {plain.title} shares no output with the explaining file; it has "
            f"{', '.join(found)}"
        )
    for name in shared:
        one, other = (np.asarray(x[name], np.float64) for x in (found, explained))
        if one.shape != other.shape or not _close(one, other):
            raise InputError(
                f"--plain: {plain.title} is another model: its output '{name}' differs from the "
                "explaining file's; give the file that it was made of"
            )


def _is_numbers(value: object) -> bool:
    return isinstance(value, np.ndarray) and bool(np.issubdtype(value.dtype, np.number))


def _close(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    scale = float(np.abs(one).max(initial=0.0))
    return bool(np.allclose(one, other, rtol=0, atol=_SAME * scale, equal_nan=True))
