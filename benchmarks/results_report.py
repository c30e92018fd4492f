"""From records to RESULTS.md."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from results_plots import draw_plots

from onnxcam.files import atomic

ByKey = Mapping[str, dict[str, Any]]
# What is measured, the bar, and where the figure is found: a number and how it is written
Finder = Callable[[ByKey], "float | None"]

INTRODUCTION = """\
Written by `python benchmarks/results.py`. All of a table's rows take turns in one process (cold
start: in processes that take turns), with the same number of threads for everybody; the results
are compared before they are timed. Figures are medians, in brackets quartiles; a ratio is the
median of the rounds' own ratios. On a shared machine trust ratios, not times."""

AGAINST = """\
Networks have random weights and see 224x224 pixels. A batch: tensor in, maps out. Ten classes: of
one picture. End to end: a decoded picture of 640x480 in, its overlay out. `x onnxcam` is how many
times onnxcam's time something takes; `map differs by` the largest difference between its maps and
onnxcam's in its own scaling, maps lying between 0 and 1 (limit 0.01, OpenVINO 0.05). The plain
forward passes explain nothing."""

TITLES = {
    "engine": ("The engine's own overhead", "`maps`: array in, map out. `stream`: frame in, "
               "resized, normalised; overlay out. Against `session.run` of the explaining and of "
               "the plain model."),
    "reduction": ("From activation and gradient to a map", ""),
    "rendering": ("Painting", ""),
    "cold start": ("Cold start", "A fresh process each."),
    "browser": ("In a browser", "From a picture to its overlay, over the plain forward pass."),
    "soak": ("Many maps, many threads", ""),
    "export": ("Export", "Time of `onnxcam export onnx` over the number of nodes."),
}  # fmt: skip


def torch_ratio(network: str, task: str, peer: str, step: str = "torch") -> Finder:
    def find(records: ByKey) -> float | None:
        record = records.get(f"{step}/{network}/{task}")
        found = None if record is None else record["ratios"].get(peer)
        return None if found is None else float(found["median"])

    return find


def cell(step: str, column: int, *starts: str) -> Finder:
    """A number of a printed table: the first one in that cell of the row that starts like this."""

    def find(records: ByKey) -> float | None:
        for line in records.get(step, {}).get("text", "").splitlines():
            cells = [part.strip() for part in line.strip().strip("|").split("|")]
            if cells[: len(starts)] == list(starts) and len(cells) > column:
                return _number(cells[column])
        return None

    return find


def printed(step: str, pattern: str) -> Finder:
    """The number that a pattern's group matches in what a step has printed."""

    def find(records: ByKey) -> float | None:
        match = re.search(pattern, records.get(step, {}).get("text", ""), re.MULTILINE)
        return None if match is None else float(match.group(1))

    return find


_COLD = r"^onnxcam, picture to overlay +\d+ +"
_END = "end to end"
_NETWORKS = {"ResNet-50": "resnet50", "MobileNetV2": "mobilenet_v2"}
_EACH = "pytorch-grad-cam, a call each"
Bar = tuple[str, float, str, bool, Finder]  # what, bar, unit, at least, finder


def end_to_end(step: str, where: str) -> Iterator[Bar]:
    """The bars of a step that measures picture to overlay against the torch libraries."""
    for peer, *bars in (("pytorch-grad-cam", 5, 9), ("torchcam", 2, 4), ("captum", 2, 4)):
        for network, bar in zip(("ResNet-50", "MobileNetV2"), bars, strict=True):
            finder = torch_ratio(_NETWORKS[network], _END, peer, step)
            yield f"{peer}, end to end, {network}{where}", bar, "x", True, finder


BARS: tuple[Bar, ...] = (
    ("overlay 224x224, NumPy+OpenCV's time over ours", 8, "x", True,
     cell("rendering", 4, "224x224", "JET")),
    ("overlay 1280x720, NumPy+OpenCV's time over ours", 6, "x", True,
     cell("rendering", 4, "1280x720", "JET")),
    ("overlay 3840x2160, NumPy+OpenCV's time over ours", 8, "x", True,
     cell("rendering", 4, "3840x2160", "JET")),
    ("overlay 1280x720 over np.copyto, JET", 2, "x", False,
     cell("rendering", 5, "1280x720", "JET")),
    ("overlay 1280x720 over np.copyto, a table", 2.5, "x", False,
     cell("rendering", 5, "1280x720", "table")),
    ("overlay 1280x720 over np.copyto, a steep table", 2.5, "x", False,
     cell("rendering", 5, "1280x720", "steep table")),
    ("overlay 3840x2160 over np.copyto, JET", 2, "x", False,
     cell("rendering", 5, "3840x2160", "JET")),
    ("overlay 3840x2160 over np.copyto, a table", 2.5, "x", False,
     cell("rendering", 5, "3840x2160", "table")),
    ("overlay 3840x2160 over np.copyto, a steep table", 2.5, "x", False,
     cell("rendering", 5, "3840x2160", "steep table")),
    ("largest difference from OpenCV's pixels", 2, "levels", False,
     cell("rendering", 3, "1280x720", "JET")),
    ("reduction 2048x7x7, one target (fastest run)", 15, "us", False,
     cell("reduction", 1, "2048x7x7")),
    ("start to first overlay over start to first plain prediction, ResNet-18", 1.15, "x", False,
     printed("cold start", _COLD + r"([\d.]+)")),
    ("memory beyond onnxruntime's own", 25, "MiB", False,
     printed("cold start", _COLD + r".* (-?[\d.]+)$")),
    *end_to_end("torch", ""),
    ("pytorch-grad-cam, ten classes, ResNet-50", 50, "x", True,
     torch_ratio("resnet50", "ten classes", _EACH)),
    ("pytorch-grad-cam, ten classes, MobileNetV2", 50, "x", True,
     torch_ratio("mobilenet_v2", "ten classes", _EACH)),
    *end_to_end("torch on all cores", ", all cores"),
    ("array in, map out over plain session.run, ResNet-50", 1.03, "x", False,
     cell("engine", 4, "resnet50")),
    ("array in, map out over plain session.run, MobileNetV2", 1.05, "x", False,
     cell("engine", 4, "mobilenet_v2")),
    ("array in, map out over session.run of the explaining file, ResNet-50", 1.03, "x", False,
     cell("engine", 3, "resnet50")),
    ("array in, map out over session.run of the explaining file, MobileNetV2", 1.05, "x", False,
     cell("engine", 3, "mobilenet_v2")),
    ("in a browser: picture to overlay over the plain forward pass, MobileNetV2", 1.1, "x", False,
     cell("browser", 4, "MobileNetV2")),
    ("in a browser: loaded before the first overlay, without the model", 4, "MiB", False,
     printed("browser", r"model: ([\d.]+) MiB")),
    ("memory growth over 10,000 maps, 8 threads", 1, "MiB", False,
     printed("soak", r"([+-][\d.]+) MiB since")),
    ("maps that differ among them", 0, "maps", False, printed("soak", r"(\d+) differ")),
)  # fmt: skip


def write_report(records: ByKey, folder: Path) -> list[Path]:
    """RESULTS.md and its plots, in `folder`; gives their paths."""
    plots = draw_plots(records, folder)
    text = "\n\n".join(_sections(records, plots)) + "\n"
    path = folder / "RESULTS.md"
    with atomic(path) as stream:
        stream.write(text.encode())
    return [path, *plots]


def _sections(records: ByKey, plots: list[Path]) -> Iterator[str]:
    about = records["settings"]
    yield "# Results"
    yield INTRODUCTION
    if about["quick"]:
        yield "**A quick run: few rounds, figures are rough.**"
    yield "## The machine"
    yield _machine(about)
    yield "## Bars"
    yield "Those of the project's plan; a figure that is not there was not measured."
    yield _bars(records)
    measured = {key: record for key, record in records.items() if "ratios" in record}
    if measured:
        yield "## Against others"
        yield AGAINST
        for plot in plots:
            yield f"![{plot.stem.replace('-', ' ')}]({plot.name})"
        for key, record in measured.items():
            yield f"### {key.replace('/', ', ')}"
            yield _against(record)
    for step, (title, words) in TITLES.items():
        if records.get(step, {}).get("text"):
            yield f"## {title}"
            if words:
                yield words
            yield as_markdown(records[step]["text"])
    reasons = [f"- {r['key']}: {r['reason']}" for r in records.values() if r.get("reason")]
    reasons += sorted({
        f"- {name}: {reason}"
        for record in measured.values()
        for name, reason in record["skipped"].items()
    })  # fmt: skip
    if reasons:
        yield "## Left out"
        yield without_paths("\n".join(reasons))


def _machine(about: dict[str, Any]) -> str:
    rows = [
        ("processor", about["processor"]),
        ("cores", about["cores"]),
        ("memory", about["memory"]),
        ("system", about["system"]),
        ("threads", about["threads"]),
        ("kernels", about["kernels"]),
        ("load when the run began", None if about["load"] is None else f"{about['load']:.1f}"),
        ("versions", ", ".join(f"{name} {found}" for name, found in about["versions"].items())),
    ]
    lines = ["| | |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {value} |" for name, value in rows if value is not None])


def _bars(records: ByKey) -> str:
    lines = ["| | bar | measured | |", "|---|---|---|---|"]
    for what, bar, unit, at_least, find in BARS:
        value = find(records)
        sign = ">=" if at_least else "<="
        said = "" if value is None else f"{value:.4g} {unit}"
        met = "" if value is None else "yes" if (value >= bar) == at_least or value == bar else "no"
        lines.append(f"| {what} | {sign} {bar:g} {unit} | {said} | {met} |")
    return "\n".join(lines)


def _against(record: dict[str, Any]) -> str:
    lines = ["| | ms | x onnxcam | map differs by |", "|---|---|---|---|"]
    for name, found in record["milliseconds"].items():
        check = record["checked"].get(name)
        cells = [
            name,
            _spread(found, 1),
            _spread(record["ratios"][name], 2),
            f"{check['difference']:.1e}" if check else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    precision = f" OpenVINO's precision: {record['precision']}." if "precision" in record else ""
    return "\n".join([*lines, "", f"{record['rounds']} rounds.{precision}"])


def _spread(found: dict[str, float], digits: int) -> str:
    median, lower, upper = (f"{found[k]:.{digits}f}" for k in ("median", "lower", "upper"))
    return f"{median} ({lower} to {upper})"


def as_markdown(text: str) -> str:
    """What a program has printed: tables as they are, aligned columns as a block of code."""
    parts = []
    lines = without_paths(text).strip().splitlines()
    for is_table, group in itertools.groupby(lines, key=lambda line: line.startswith("|")):
        block = "\n".join(group).strip("\n")
        aligned = not is_table and re.search(r"\S {2,}\S", block)
        parts.append(f"```\n{block}\n```" if aligned else block)
    return "\n\n".join(part for part in parts if part.strip())


def without_paths(text: str) -> str:
    """Only the last part of every absolute path."""
    return re.sub(r"(?<![\w./])(?:/[\w.+@~-]+)+/([\w.+@~-]+)", r"\1", text)


def _number(text: str) -> float | None:
    match = re.match(r"[-+]?[\d.]+", text)
    return None if match is None else float(match.group())
