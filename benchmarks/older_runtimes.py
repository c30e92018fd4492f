"""Which versions of onnxruntime run which exported files, and the engine on them.

    python benchmarks/older_runtimes.py --folder DIR [--versions 1.17.0 1.18.1 ...] [--write]

For every version a virtual environment with it, a NumPy of its time and Pillow is made in DIR
(from the package index that pip is set up for) and kept; a version whose results are there already
is not run again. In each of them every kind of exported file is loaded and run on the same input,
and the engine explains a picture with it. All results are compared with those of the newest
version. With --write the table goes into docs/older-runtimes.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "older-runtimes.md"
MARK = "<!-- the table of benchmarks/older_runtimes.py -->"
VERSIONS = (
    "1.17.0 1.18.1 1.19.2 1.20.1 1.21.1 1.22.1 1.23.2 1.24.4 1.26.0 1.28.0 1.30.0 1.31.1 1.32.0"
).split()
# The first version that was built for NumPy 2; the lowest one gets the lowest NumPy we ask for.
NUMPY_2 = (1, 19)
LOWEST = {"1.17.0": "numpy==1.26.0"}
SAME = 1e-3  # of the largest value: float32 kernels of other versions, half precision behind them


def worker(models: Path, out: Path) -> None:
    """In an environment of its own: run every file, and the engine with it."""
    import onnxruntime as ort
    from PIL import Image

    from onnxcam import Engine, Stream

    arrays, failures = {}, {}
    picture = np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8)
    for path in sorted(models.glob("*.onnx")):
        rng = np.random.default_rng(0)
        try:
            options = ort.SessionOptions()
            options.log_severity_level = 4
            session = ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])
            feeds = {i.name: _input(i, rng) for i in session.get_inputs()}
            names = [o.name for o in session.get_outputs()]
            for name, value in zip(names, session.run(names, feeds), strict=True):
                arrays[f"{path.stem}/{name}"] = value
        except Exception as error:  # onnxruntime's exceptions share no base class
            failures[path.stem] = _reason(error)
            continue
        try:
            engine = Engine(path)
            name = engine.contract.picture.name
            targets = feeds.get("cam_target")
            further = {k: v for k, v in feeds.items() if k not in (name, "cam_target")}
            arrays[f"{path.stem}/maps"] = engine.maps(feeds[name], targets, inputs=further)
            if engine.preprocess is not None and not further:
                result = engine.explain(Image.fromarray(picture))
                arrays[f"{path.stem}/heatmap"] = result.heatmap
                result.overlay()
                Stream(engine)(picture)
        except Exception as error:
            failures[f"{path.stem}/engine"] = f"{type(error).__name__}: {error}"
    np.savez(out.with_suffix(".npz"), **arrays)
    versions = {"numpy": np.__version__, "python": sys.version.split()[0]}
    document = {"failures": failures, "versions": versions}
    out.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _reason(error: Exception) -> str:
    """The first line of onnxruntime's message without its codes, its source and our folder."""
    return str(error).splitlines()[0].rpartition("&) ")[2].rpartition("] : ")[2]


def _input(info: Any, rng: np.random.Generator) -> np.ndarray:
    shape = [side if isinstance(side, int) else 2 for side in info.shape]
    if info.type == "tensor(int64)":
        return rng.integers(-1, 1, shape)  # class 0 or the highest score
    kind = np.float16 if info.type == "tensor(float16)" else np.float32
    return rng.random(shape).astype(kind)


def make_models(folder: Path) -> dict[str, str]:
    """Write the files where they are not there yet; their names and what they are."""
    listed = folder / "models.json"
    if listed.exists():
        return dict(json.loads(listed.read_text(encoding="utf-8")))
    import onnx
    from older_runtimes_kinds import kinds

    (folder / "models").mkdir(parents=True, exist_ok=True)
    titles = {}
    for number, (title, make) in enumerate(kinds(folder)):
        stem = f"{number:02d}"
        onnx.save(make(), folder / "models" / f"{stem}.onnx")
        titles[stem] = title
        print(f"made {title}", flush=True)
    listed.write_text(json.dumps(titles, ensure_ascii=False, indent=1), encoding="utf-8")
    return titles


def environment(folder: Path, version: str) -> Path:
    """The Python of an environment with that version; made where it is not there.

    Raises:
        subprocess.CalledProcessError: it cannot be installed here.
    """
    home = folder / "environments" / version
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        numpy = "numpy" if _numbers(version) >= NUMPY_2 else "numpy<2"
        wanted = [f"onnxruntime=={version}", LOWEST.get(version, numpy), "pillow"]
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", *wanted]
        subprocess.run(pip, check=True, capture_output=True, text=True)
        (home / "complete").touch()
    return python


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def measure(folder: Path, version: str) -> dict[str, Any] | str:
    """The results of a version, from before where nothing has changed; or why there are none."""
    models = folder / "models"
    digest = hashlib.sha256()
    sources = [Path(__file__), *sorted((ROOT / "engine").rglob("*.py"))]
    for path in [*sorted(models.glob("*.onnx")), *sources]:
        digest.update(path.read_bytes())
    out = folder / "results" / f"{version}-{digest.hexdigest()[:12]}.json"
    out.parent.mkdir(exist_ok=True)
    if not out.exists():
        try:
            python = environment(folder, version)
            command = [str(python), __file__, "--folder", str(models), "--worker", str(out)]
            path = {"PYTHONPATH": str(ROOT / "engine"), "PATH": "/usr/bin:/bin"}
            subprocess.run(command, check=True, env=path, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            return (error.stderr or error.stdout or str(error)).strip().splitlines()[-1]
    document: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    with np.load(out.with_suffix(".npz")) as arrays:
        document["arrays"] = dict(arrays)
    return document


def difference(found: dict[str, Any], newest: dict[str, Any], stem: str) -> float:
    """The largest difference of an array of one file, in parts of the newest's largest value."""
    worst = 0.0
    for name, expected in newest["arrays"].items():
        if not name.startswith(f"{stem}/"):
            continue
        value = found["arrays"][name].astype(np.float64)
        if value.shape != expected.shape:
            return float("inf")
        largest = float(np.abs(expected.astype(np.float64)).max()) or 1.0
        worst = max(worst, float(np.abs(value - expected).max()) / largest)
    return worst


def table(titles: dict[str, str], results: dict[str, Any]) -> str:
    """Markdown: a row a kind of file, a column a version, notes for what fails."""
    versions = list(results)
    newest = results[versions[-1]]
    notes: list[str] = []
    short = [version.rsplit(".", 1)[0] for version in versions]
    lines = [
        "| file | " + " | ".join(short) + " | largest difference |",
        "|---|" + "---|" * (len(versions) + 1),
    ]
    for stem, title in titles.items():
        cells, worst = [], 0.0
        for version in versions:
            found = results[version]
            failures = found["failures"]
            reason = failures.get(stem) or failures.get(f"{stem}/engine")
            if reason is None:
                off = difference(found, newest, stem)
                worst = max(worst, off)
                reason = None if off < SAME else f"differs from {versions[-1]} by {off:.1g}"
            if reason is not None and reason not in notes:
                notes.append(reason)
            cells.append("yes" if reason is None else f"no ({notes.index(reason) + 1})")
        lines.append(f"| {title} | " + " | ".join(cells) + f" | {worst:.0e} |")
    numpy = [results[version]["versions"]["numpy"].rsplit(".", 1)[0] for version in versions]
    lines.append("| NumPy there | " + " | ".join(numpy) + " | |")
    lines += [""] + [f"({number}) {note}\n" for number, note in enumerate(notes, 1)]
    python = newest["versions"]["python"].rsplit(".", 1)[0]
    lines.append(f"Versions run: {', '.join(versions)}; Python {python}, Linux, CPU.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for environments and results")
    parser.add_argument("--versions", nargs="+", default=VERSIONS, metavar="V")
    parser.add_argument("--write", action="store_true", help="into docs/older-runtimes.md")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.folder, args.worker)
        return
    titles = make_models(args.folder)
    results = {}
    for version in sorted(args.versions, key=_numbers):
        found = measure(args.folder, version)
        if isinstance(found, str):
            print(f"{version}: not run: {found}")
        else:
            results[version] = found
            print(f"{version}: {len(found['failures'])} failures", flush=True)
    text = table(titles, results)
    print(text)
    if args.write:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(MARK)
        after = rest.partition(MARK)[2]
        PAGE.write_text(f"{before}{MARK}\n\n{text}\n\n{MARK}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
