"""Times of several functions that take turns, because the speed of a shared machine drifts."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PERCENTILES = (50, 90, 99)
_QUARTILES = (25, 50, 75)


def interleaved(
    roads: Mapping[str, Callable[[], object]],
    seconds: float,
    least: int = 5,
    clock: Callable[[], float] | None = None,
    pause: float = 0.0,
) -> dict[str, NDArray[np.float64]]:
    """Seconds of every function, round by round, as float64 [rounds].

    One round runs each of them twice and times the second run: the first finds the caches full of
    what the others left there, weights above all, which is nobody's use of one function (it made
    MobileNetV2's forward pass a quarter slower in onnxruntime and a third in PyTorch). Rounds begin
    with another one every time. Two come before the first that counts.

    Args:
        roads: functions by name.
        seconds: how long to go on.
        least: rounds to make even if that takes longer.
        clock: what the functions are timed by, in seconds; None for the time that passes.
        pause: seconds between one function's turn and the next one's, in which the threads of the
            former may go to sleep: PyTorch's and onnxruntime's go on looking for work for some
            milliseconds, on the cores that the latter wants.
    """
    clock = clock or time.perf_counter
    names = list(roads)
    for name in names * 2:
        roads[name]()
    rounds: list[dict[str, float]] = []
    end = time.perf_counter() + seconds
    while len(rounds) < least or time.perf_counter() < end:
        first = len(rounds) % len(names)
        taken: dict[str, float] = {}
        for name in names[first:] + names[:first]:
            time.sleep(pause)
            roads[name]()
            start = clock()
            roads[name]()
            taken[name] = clock() - start
        rounds.append(taken)
    return {name: np.array([taken[name] for taken in rounds]) for name in names}


def percentiles(seconds: NDArray[np.float64]) -> dict[str, float]:
    """Median, 90th and 99th percentile in milliseconds: `p50`, `p90`, `p99`."""
    found = 1e3 * np.percentile(seconds, _PERCENTILES)
    return {f"p{p}": float(value) for p, value in zip(_PERCENTILES, found, strict=True)}


def quartiles(ratios: NDArray[np.float64]) -> dict[str, float]:
    """Of the rounds' ratios: `median`, `lower` and `upper` quartile."""
    lower, middle, upper = (float(value) for value in np.percentile(ratios, _QUARTILES))
    return {"median": middle, "lower": lower, "upper": upper}


def machine(providers: list[str]) -> dict[str, Any]:
    """What the figures depend on, without saying whose machine it is."""
    import onnxruntime

    return {
        "cores": _cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "providers": [name.removesuffix("ExecutionProvider") for name in providers],
    }


def _cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux can tell
        return os.cpu_count() or 1
