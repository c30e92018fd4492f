"""The exported gradient against autograd, over every architecture of three libraries.

    python benchmarks/sweep_gradients.py --results sweep.jsonl --table benchmarks/sweep_results.md

For each network, with random weights that let nothing vanish: the default layer (logit and
probability), and a layer at one third of the depth, where float32 itself wavers and the error
against float64 autograd is set against float32 autograd's own. Results are appended to a JSON
lines file; what is in it is not computed again. Each network runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("KERAS_BACKEND", "torch")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np
import sweep_models as table
import sweep_report
import torch

from helpers_torchvision import torchvision

LIBRARIES = ("torchvision", "timm", "keras")
TARGETS = np.array([3, 7, 0, 9, 5])  # of as many pictures
NEAR = 12  # how many layers around one third of the depth are offered to autograd's record
MORE_PICTURES = 4  # times as many where one third of the depth misses its bar
TIMEOUT = 900


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", nargs="+", choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these networks only")
    parser.add_argument("--results", type=Path, default=Path("sweep.jsonl"))
    parser.add_argument("--table", type=Path, help="write the Markdown table here")
    parser.add_argument("--cache", type=Path, help="keep exported networks in this folder")
    parser.add_argument("--exporter", choices=("dynamo", "torchscript"), default="dynamo")
    parser.add_argument("--retry", action="store_true", help="again what missed its bar")
    args = parser.parse_args(argv)
    done = {(row["library"], row["name"]): row for row in sweep_report.read(args.results)}
    if args.retry:
        done = {key: row for key, row in done.items() if sweep_report.verdict(row) == "ok"}
    todo = [job for job in _jobs(args.library, args.only) if job not in done]
    _preload(args.library)
    for index, (library, name) in enumerate(todo):
        row = _in_own_process(library, name, args.exporter, args.cache)
        with args.results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"[{index + 1}/{len(todo)}] {sweep_report.line(row)}", flush=True)
    if args.table:
        rows = list(
            {(r["library"], r["name"]): r for r in sweep_report.read(args.results)}.values()
        )
        args.table.write_text(sweep_report.markdown(rows))
    return 0


def _jobs(libraries: list[str], only: list[str] | None) -> Iterator[tuple[str, str]]:
    names = {
        "torchvision": lambda: table.torchvision_names(torchvision),
        "timm": lambda: table.TIMM,
        "keras": lambda: table.KERAS,
    }
    for library in libraries:
        for name in names[library]():
            if only is None or name in only:
                yield library, name


def _preload(libraries: list[str]) -> None:
    """Import once what every forked child needs."""
    import onnxscript  # noqa: F401
    import timm  # noqa: F401
    import torch._dynamo
    import torch.onnx._internal.exporter._core

    if "keras" in libraries:
        import keras  # noqa: F401
    torch.set_num_threads(1)


def _in_own_process(library: str, name: str, exporter: str, cache: Path | None) -> dict[str, Any]:
    """Measure in a child process, so that a crash or a leak is its own."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    measure = _measure
    if library == "keras" and name in table.KERAS_ON_TENSORFLOW:
        measure = _measure_on_tensorflow
    child = context.Process(target=measure, args=(library, name, exporter, cache, sender))
    start = time.monotonic()
    child.start()
    sender.close()
    row: dict[str, Any] = {"library": library, "name": name}
    try:
        if receiver.poll(TIMEOUT):
            row.update(receiver.recv())
        else:
            row["error"] = f"time: more than {TIMEOUT} s"
    except EOFError:
        row["error"] = "crash: the process died"
    child.terminate()
    child.join()
    row["seconds"] = round(time.monotonic() - start, 1)
    return row


def _measure(library: str, name: str, exporter: str, cache: Path | None, sender: Any) -> None:
    row: dict[str, Any] = {"stage": "build", "exporter": exporter}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            compare(library, name, cache, row)
            del row["stage"]
        except Exception as error:
            text = next(iter(str(error).strip().splitlines()), "")
            row["error"] = f"{row.pop('stage')}: {type(error).__name__}: {text[:400]}"
    row["notes"] = [str(w.message)[:200] for w in caught if "batch axis" in str(w.message)]
    sender.send(row)


def _measure_on_tensorflow(
    library: str, name: str, exporter: str, cache: Path | None, sender: Any
) -> None:
    """In a fresh interpreter: Keras has one backend for the life of a process."""
    del library, exporter, cache
    script = Path(__file__).resolve().parent / "sweep_tensorflow.py"
    ran = subprocess.run(
        [sys.executable, str(script), name],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
    )
    lines = ran.stdout.strip().splitlines()
    if ran.returncode == 0 and lines:
        sender.send(json.loads(lines[-1]))
    else:
        last = (ran.stderr.strip().splitlines() or ["no output"])[-1]
        sender.send({"error": f"on TensorFlow: {last[:300]}"})


def compare(library: str, name: str, cache: Path | None, row: dict[str, Any]) -> None:
    """Fill `row` with what the exported gradients of one network are off by."""
    from sweep_networks import build_network, capture

    torch.manual_seed(0)
    network = build_network(library, name)
    row.update(side=network.side, parameters=network.parameters)
    row["stage"] = "export"
    source, network = capture(network, cache, row)
    from sweep_layers import Explained, layer_near_a_third, operators_behind

    row["stage"] = "autograd"
    single = network.autograd(torch.float32)
    try:
        double = network.autograd(torch.float64)
    except Exception as error:
        double, row["no float64"] = None, f"{type(error).__name__}: {str(error)[:100]}"

    row["stage"] = "default layer"
    explained = Explained(source, None, "logit")
    row.update(layer=explained.name, tensor=explained.tensor, shape=explained.shape)
    _, gradient = explained.run(network.pictures, TARGETS)
    matches = single.find(explained.raw(source, network.pictures))
    row["nodes"] = explained.nodes
    if not matches:
        raise LookupError(f"no torch tensor has the values of '{explained.tensor}'")
    found, expected = closest(single, matches, explained, gradient)
    row["largest"] = float(np.abs(expected).max())
    row["default logit"] = relative(gradient, expected)
    if double is not None:
        twin = in_double(single, double, found, explained, gradient)
        exact = explained.exposed(double.gradient(twin, TARGETS, "logit"))
        row["default logit 64"] = [relative(gradient, exact), relative(expected, exact)]

    row["stage"] = "probability"
    explained = Explained(source, None, "probability")
    _, gradient = explained.run(network.pictures, TARGETS)
    expected = explained.exposed(single.gradient(found, TARGETS, "probability"))
    row["default probability"] = relative(gradient, expected)
    if double is not None:
        exact = explained.exposed(double.gradient(twin, TARGETS, "probability"))
        row["default probability 64"] = [relative(gradient, exact), relative(expected, exact)]

    row["stage"] = "one third"
    candidate, matches = layer_near_a_third(source, single, network.pictures, NEAR)
    row.update({"third tensor": str(candidate.value.name), "third layer": candidate.name})
    row["operators"] = operators_behind(source, str(candidate.value.name))
    explained = Explained(source, str(candidate.value.name), "logit")
    _, gradient = explained.run(network.pictures, TARGETS)
    found, expected = closest(single, matches, explained, gradient)
    row["third largest"] = float(np.abs(expected).max())
    # The median over the pictures: in float32 a ReLU flips for one picture and not for another.
    row["third logit"] = float(np.median(by_picture(gradient, expected)))
    row["third shape"] = explained.shape
    if double is None:
        return
    twin = in_double(single, double, found, explained, gradient)
    exact = explained.exposed(double.gradient(twin, TARGETS, "logit"))
    ours, autograds = by_picture(gradient, exact), by_picture(expected, exact)
    set_third_errors(row, ours, autograds)
    for seed in range(1, 1 + MORE_PICTURES):
        if sweep_report.verdict(row) == "ok":
            break
        # Of five pictures the median is a coarse one where ReLUs flip: ask about five more.
        other = network.with_pictures(seed)
        single, double = other.autograd(torch.float32), other.autograd(torch.float64)
        _, gradient = explained.run(other.pictures, TARGETS)
        exact = explained.exposed(double.gradient(twin, TARGETS, "logit"))
        ours += by_picture(gradient, exact)
        autograds += by_picture(explained.exposed(single.gradient(found, TARGETS, "logit")), exact)
        set_third_errors(row, ours, autograds)


def set_third_errors(row: dict[str, Any], ours: list[float], autograds: list[float]) -> None:
    """Errors against float64, by picture: the medians and the highest."""
    row["third pictures"] = len(ours)
    row["third logit 64"] = [float(np.median(errors)) for errors in (ours, autograds)]
    row["third highest 64"] = [max(ours), max(autograds)]


def closest(autograd: Any, matches: Any, explained: Any, gradient: Any) -> tuple[Any, Any]:
    """Of several tensors with the layer's values, the one that is the layer."""
    answers = [
        (match, explained.exposed(autograd.gradient(match, TARGETS, "logit"))) for match in matches
    ]
    return min(answers, key=lambda answer: float(np.median(by_picture(gradient, answer[1]))))


def in_double(single: Any, double: Any, found: Any, explained: Any, gradient: Any) -> Any:
    """The same tensor in the float64 network, whose record can be another one (Keras casts)."""
    index, order = found
    matches = double.find(single.record.tensors[index].detach().permute(order).numpy())
    if any(match[0] == index for match in matches):
        return found
    return closest(double, matches, explained, gradient)[0]


def relative(found: Any, expected: Any) -> float:
    """The largest error over all pictures."""
    return max(by_picture(found, expected))


def by_picture(found: Any, expected: Any) -> list[float]:
    """The largest error of each picture, relative to its largest gradient."""
    from sweep_oracle import relative as error

    if found.shape != expected.shape:
        raise ValueError(f"gradient has shape {found.shape}, autograd's {expected.shape}")
    return [error(mine, theirs) for mine, theirs in zip(found, expected, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
