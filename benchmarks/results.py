"""Run every benchmark and write RESULTS.md with its plots.

    python benchmarks/results.py                   # about an hour on an idle machine
    python benchmarks/results.py --quick           # minutes; figures are rough
    python benchmarks/results.py --only torch rendering
    python benchmarks/results.py --report          # only write the report of what is there

Each step is a process of its own, a program of this folder that can be run by itself as well. What
is measured goes into results.jsonl line by line: a run that was interrupted goes on where it
stopped, as long as its settings are the same; `--again` starts over. The peers come with
`pip install 'onnxcam[bench]'`. TensorFlow and openvino_xai may live in environments of their own:
`--tensorflow-python` and `--openvino-python` name their interpreters (the first with onnxcam and
tf2onnx, too). What is not installed is left out, with its reason in the report.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from against_records import Records
from results_machine import describe
from results_report import write_report

FOLDER = Path(__file__).resolve().parent
CORES = os.cpu_count() or 1
ALL_CORES = ("--threads", str(CORES), "--title", "torch on all cores", "--tasks", "end-to-end")
SAME = ("quick", "threads", "versions", "processor")  # of a run that goes on


@dataclass(frozen=True)
class Step:
    """A program of this folder and its arguments; `quick` are those of a short run.

    A program that writes records does so with `--records FILE`; of the others what they print is
    kept, under the step's name. `needs` is a module without which the step is left out.
    """

    name: str
    program: str
    full: Sequence[str] = ()
    quick: Sequence[str] = ()
    records: bool = False
    threads: bool = True
    needs: str | None = None
    python: str | None = None  # the option that names the interpreter to run it with
    passes: str | None = None  # the option that names one which the program itself takes
    environment: dict[str, str] = field(default_factory=dict)


STEPS = (
    Step(
        "torch",
        "against_torch.py",
        ("--seconds", "60"),
        ("--seconds", "3", "--batches", "1"),
        records=True,
        needs="torch",
    ),
    Step(  # as everybody runs who sets nothing
        "torch on all cores",
        "against_torch.py",
        ("--seconds", "60", *ALL_CORES),
        ("--seconds", "10", *ALL_CORES),
        records=True,
        threads=False,
        needs="torch",
        environment={"OMP_NUM_THREADS": str(CORES)},
    ),
    Step(
        "keras on torch",
        "against_keras.py",
        ("--seconds", "60"),
        ("--seconds", "3"),
        records=True,
        needs="torch",
        environment={"KERAS_BACKEND": "torch"},
    ),
    Step(
        "keras on tensorflow",
        "against_keras.py",
        ("--seconds", "60"),
        ("--seconds", "3"),
        records=True,
        needs="tensorflow",
        python="tensorflow_python",
        environment={"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
    ),
    Step(
        "openvino",
        "against_openvino.py",
        ("--seconds", "60"),
        ("--seconds", "3"),
        records=True,
        needs="openvino_xai",
        passes="openvino_python",
    ),
    Step(
        "engine",
        "engine_overhead.py",
        ("--seconds", "120"),
        ("--seconds", "5"),
    ),
    Step("reduction", "engine_overhead.py", ("--kernels",), ("--kernels", "--seconds", "4")),
    Step(
        "rendering",
        "rendering.py",
        ("--rounds", "300"),
        ("--rounds", "30"),
        threads=False,
    ),
    Step("cold start", "cold_start.py", ("--rounds", "21"), ("--rounds", "5")),
    Step(
        "browser",
        "browser_cost.py",
        ("--seconds", "30"),
        ("--seconds", "3"),
        needs="selenium",
        threads=False,
    ),
    Step(
        "soak",
        "soak.py",
        ("--maps", "10000", "--threads", "8"),
        ("--maps", "400", "--threads", "8"),
        threads=False,
    ),
    Step("export", "export_time.py", (), ("--nodes", "1250"), threads=False),
)


def missing(step: Step, elsewhere: str | None) -> str | None:
    """Why a step can't be run, or None; `elsewhere` is another interpreter that may have it."""
    if step.needs is None or elsewhere is not None:
        return None
    if importlib.util.find_spec(step.needs) is None:
        return f"{step.needs} is not installed"
    return None


def run(step: Step, args: argparse.Namespace, records: Records) -> None:
    """Run a step and keep its records; one that fails is recorded as such."""
    option = step.python or step.passes
    elsewhere = getattr(args, option) if option else None
    python = (elsewhere if step.python else None) or sys.executable
    reason = missing(step, elsewhere)
    if reason is not None:
        print(f"  left out: {reason}", file=sys.stderr)
        records.by_key[step.name] = {"key": step.name, "reason": reason}  # tried again next time
        return
    words = [*(step.quick if args.quick else step.full)]
    if step.threads:
        words += ["--threads", str(args.threads)]
    if step.records:
        words += ["--records", str(args.output / "results.jsonl")]
    if step.passes and elsewhere:
        words += [f"--{step.passes.replace('_', '-')}", elsewhere]
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), **step.environment}
    done = subprocess.run(
        [python, str(FOLDER / step.program), *words],
        stdout=subprocess.PIPE,
        stderr=None if step.records else subprocess.PIPE,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode == 0:
        records.add({"key": step.name, "text": done.stdout})
        return
    error = (done.stderr or "see above").strip().splitlines()[-1:]
    reason = f"failed: {error[0] if error else f'exit status {done.returncode}'}"
    print(f"  {reason}", file=sys.stderr)
    record = {"key": step.name, "reason": reason}
    records.by_key[step.name] = record | ({"text": done.stdout} if done.stdout else {})


def settings(args: argparse.Namespace) -> dict[str, Any]:
    return {"key": "settings", "quick": args.quick, "threads": args.threads, **describe()}


def open_records(args: argparse.Namespace) -> Records:
    """Of this run or of an earlier one with the same settings."""
    path = args.output / "results.jsonl"
    if args.again:
        path.unlink(missing_ok=True)
    records, own = Records(path), settings(args)
    before = records.by_key.get("settings")
    if before is None:
        records.add(own)
    elif not args.report and any(before.get(key) != own[key] for key in SAME):
        raise SystemExit(
            f"{path.name} is of a run with other settings, versions or another machine: "
            "--again starts over, --report writes its report"
        )
    return records


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="minutes instead of an hour")
    add("--threads", type=int, default=1, help="of everybody, in all steps but rendering's (1)")
    add("--only", nargs="+", metavar="STEP", choices=[step.name for step in STEPS])
    add("--again", action="store_true", help="forget what was measured before")
    add("--report", action="store_true", help="only write the report")
    add("--output", type=Path, default=FOLDER, help="folder of RESULTS.md, plots, results.jsonl")
    add("--tensorflow-python", metavar="P", help="interpreter that has tensorflow and onnxcam")
    add("--openvino-python", metavar="P", help="interpreter that has openvino_xai and onnxruntime")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    records = open_records(args)
    steps = [step for step in STEPS if not args.only or step.name in args.only]
    interrupted = False
    try:
        for number, step in enumerate([] if args.report else steps, start=1):
            if "text" in records.by_key.get(step.name, {}):
                continue
            print(f"[{number}/{len(steps)}] {step.name}", file=sys.stderr, flush=True)
            start = time.perf_counter()
            run(step, args, records)
            print(f"  {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
            if step.records:
                records.by_key |= Records(records.path).by_key
    except KeyboardInterrupt:
        interrupted = True
        records.by_key |= Records(records.path).by_key
        print("interrupted; what is measured is kept", file=sys.stderr)
    for path in write_report(records.by_key, args.output):
        print(path.name)
    return 130 if interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
