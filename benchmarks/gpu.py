"""Training steps on one NVIDIA GPU with JAX, in a limited time: images/s, share of the peak, where it goes.

    python benchmarks/gpu.py --minutes 14

Needs JAX and PyTorch for CUDA, and torchvision; needs no TensorFlow and no network. It measures, in the order
of `gpu_cases.plan`:

- `bn` and `paper` with three heads and 1000 classes, in bfloat16, TF32 and float32. The peer is torchvision's
  GoogLeNet in the same precision, channels last, eager and compiled by `torch.compile`. Large batches come
  first, then those of half the size.
- `d2l` as Dive into Deep Learning trains it: 1 channel, 96 x 96, 10 classes, batches of 128. A row has the
  images/s that its page states.
- Where the time of a step of `bn` in bfloat16 goes: its parts, and the kernels that JAX's profiler records.

A batch is on the GPU already. Before a contender is timed, it must have its known number of parameters and
lower its loss on one batch. The share of the peak counts 2 x 3 operations for each multiply-add of a network,
as `keras_googlenet.profile` counts them.

Cases that do not fit in the time left are skipped, with one line each. `gpu.csv` and `gpu_time.csv` are
written after each measurement, so a process that is ended loses only what it is measuring.

`--device cpu` runs the same on a processor, to try it out.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before Keras is imported
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory as well

import jax
from gpu_cases import BREAKDOWN, EXPECTED, PRECISIONS, TORCH, Case, make, plan
from step_time import kernels, kind, parts
from timing import circumstances, spread, write_csv
from training_steps import JaxStep, check, measured

from keras_googlenet.errors import UserError, reported
from keras_googlenet.text import reason

# Dense bfloat16 TFLOP/s, from NVIDIA's data sheets, by JAX's name of the device. TF32 has half of it.
PEAKS = {
    "NVIDIA H100 80GB HBM3": 989, "NVIDIA H100 PCIe": 756, "NVIDIA H100 NVL": 835, "NVIDIA H200": 989,
    "NVIDIA A100-SXM4-40GB": 312, "NVIDIA A100-SXM4-80GB": 312, "NVIDIA A100-PCIE-40GB": 312,
    "NVIDIA A100 80GB PCIe": 312, "NVIDIA L4": 121, "NVIDIA L40S": 362, "NVIDIA A10G": 70,
    "NVIDIA GeForce RTX 4090": 165,
}  # fmt: skip
OF_PEAK = {"bfloat16": 1.0, "tf32": 0.5}  # float32 has no matrix units

D2L_PAGE: dict[str, Any] = {
    "contender": "d2l, as its page states",
    "images_per_second": 2260.0,
    "note": "on another GPU, with its input pipeline",
}
COLUMNS = (
    "image_size", "batch_size", "contender", "precision", "parameters", "images_per_second",
    "images_per_second_low", "images_per_second_high", "ms_per_step", "teraflops", "share_of_peak",
    "times_torchvision", "seconds", "note",
)  # fmt: skip


class Measuring:
    """Measures one case after another; keeps the step that is broken down later."""

    def __init__(self, options: argparse.Namespace, common: dict[str, Any], peak: float | None) -> None:
        self._options, self._common, self._peak = options, common, peak
        self._step: JaxStep | None = None

    def figures(self, case: Case) -> dict[str, Any]:
        """The columns of a case."""
        if case.name == BREAKDOWN:
            return self._break_down(case)
        options = self._options
        contender = make(case, options.device)
        check(str(case), contender, case.size)
        found = spread([measured(contender, case.batch, options.seconds) for _ in range(options.rounds)])
        teraflops = 2 * 3 * contender.macs * found.median / 1e12
        peak = OF_PEAK.get(case.precision, 0) * (self._peak or 0)
        broken_down = (options.variants[0], "bfloat16", options.image_sizes[-1], options.batch_sizes[-1])
        if (case.name, case.precision, case.size, case.batch) == broken_down:
            assert isinstance(contender.step, JaxStep)
            self._step = contender.step
        return {
            "parameters": contender.parameters, "images_per_second": found.median,
            "images_per_second_low": found.low, "images_per_second_high": found.high,
            "ms_per_step": 1e3 * case.batch / found.median, "teraflops": teraflops,
            "share_of_peak": teraflops / peak if peak else "",
        }  # fmt: skip

    def _break_down(self, case: Case) -> dict[str, Any]:
        """Write and print the parts of a step and its kernels."""
        if self._step is None:
            raise UserError(f"it needs {self._options.variants[0]} in bfloat16 of this size and batch")
        rows = []
        for row in time_of(self._step, self._options.seconds):
            rows.append(
                self._common
                | {"image_size": case.size, "batch_size": case.batch, "contender": self._options.variants[0]}
                | {"precision": case.precision}
                | row
            )
            write_csv(self._options.to / "gpu_time.csv", rows)
        tell(rows)
        self._step = None  # its memory is free again
        return {"note": "see gpu_time.csv"}


def time_of(step: JaxStep, seconds: float) -> Iterator[dict[str, Any]]:
    """Rows of the parts of a step, then of its kernels."""
    whole = 0.0
    for name, taken in parts(step, seconds):
        whole = whole or taken
        yield {"of": "step", "kind": name, "name": "", "ms_per_step": 1e3 * taken, "share": taken / whole}
    found = kernels(step)
    if not found:
        print("the profiler recorded no kernel", flush=True)
    total = sum(found.values())
    for name, taken in found.items():
        row = {"of": "kernels", "kind": kind(name), "name": name}
        yield row | {"ms_per_step": taken, "share": taken / total}


def release(case: Case) -> None:
    """Free the memory of what was measured."""
    gc.collect()
    if case.name in TORCH:
        import torch

        torch.cuda.empty_cache()


def tell(rows: Sequence[dict[str, Any]]) -> None:
    """Print the breakdown, its kernels by kind."""
    kinds: Counter[str] = Counter()
    for row in rows:
        if row["of"] == "step":
            print(f"  {row['kind']:52} {row['ms_per_step']:9.3f} ms {row['share']:6.1%}")
        else:
            kinds[row["kind"]] += row["share"]
    for name, share in kinds.most_common():
        print(f"  kernels, {name:43} {share:19.1%}", flush=True)


def compared(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with all columns; each rate with its ratio to torchvision's fastest on the same batch."""
    alike = ("image_size", "batch_size", "precision")
    result = []
    for row in rows:
        peers = [
            peer["images_per_second"]
            for peer in rows
            if peer["contender"] in TORCH
            and "images_per_second" in peer
            and all(peer[k] == row.get(k) for k in alike)
        ]
        comparable = peers and "images_per_second" in row and row["contender"] != "d2l"
        of_peer = row["images_per_second"] / max(peers) if comparable else ""
        result.append({name: row.get(name, "") for name in COLUMNS} | {"times_torchvision": of_peer})
    return result


def device_name(device: str) -> str:
    """The device's name, as JAX has it.

    Raises:
        UserError: JAX sees no GPU.
    """
    found = jax.devices()[0]
    if device == "gpu" and found.platform != "gpu":
        raise UserError("no GPU that JAX could use: install jax[cuda13], or try this out with --device cpu")
    return str(found.device_kind)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=14, help="in all, from the start")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--variants", nargs="+", default=["bn", "paper"], help="the first is broken down")
    parser.add_argument("--image-sizes", nargs="+", type=int, default=[96, 224])
    parser.add_argument(
        "--batch-sizes", nargs="+", type=int, default=[256, 128], help="one for each image size"
    )
    parser.add_argument("--contenders", nargs="+", help="names; by default all")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="in a round, of each contender")
    parser.add_argument(
        "--peak-tflops", type=float, help="the GPU's dense peak in bfloat16; by default by its name"
    )
    parser.add_argument("--to", type=Path, default=Path("results"), help="folder of the figures (results)")
    options = parser.parse_args(arguments)
    if len(options.batch_sizes) != len(options.image_sizes):
        parser.error("expected as many --batch-sizes as --image-sizes")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    begun = time.perf_counter()
    options = parse(arguments)
    name = device_name(options.device)
    peak = options.peak_tflops or PEAKS.get(name)
    if peak is None:
        print(f"the peak of {name} is not known: pass --peak-tflops for the shares of it")
    missing = [peer for peer in ("torch", "torchvision") if importlib.util.find_spec(peer) is None]
    if missing:
        print(f"not installed, and torchvision is not measured: {', '.join(missing)}")
    packages = ["keras", "jax", *(peer for peer in ("torch", "torchvision") if peer not in missing)]
    common = circumstances(*packages) | {
        "device": name, "peak_tflops": peak or "", "rounds": options.rounds, "round_seconds": options.seconds,
    }  # fmt: skip
    measuring = Measuring(options, common, peak)
    expected, rows = dict(EXPECTED), [D2L_PAGE]
    planned = plan(options.variants, options.image_sizes, options.batch_sizes)
    cases = [case for case in planned if wanted(case, options, missing)]
    if not cases:
        names = ", ".join(dict.fromkeys(case.name for case in planned))
        raise UserError(f"expected --contenders of {names}, with packages that are installed")
    for case in cases:
        started = time.perf_counter()
        left = 60 * options.minutes - (started - begun)
        row: dict[str, Any] = {"image_size": case.size, "batch_size": case.batch}
        row |= {"contender": case.name, "precision": case.precision}
        if left < expected[case.kind]:
            row["note"] = f"skipped: {left:.0f} s left, expected to take {expected[case.kind]:.0f} s"
        else:
            try:
                row |= measuring.figures(case)
            except Exception as error:  # out of memory, or without a compiler: the others are measured
                row["note"] = f"failed: {reason(error)}"
            release(case)
            row["seconds"] = expected[case.kind] = time.perf_counter() - started
        rows.append(row)
        write_csv(options.to / "gpu.csv", [common | one for one in compared(rows)])
        print(f"{case}: {told(row)}", flush=True)
    print(f"wrote {options.to / 'gpu.csv'}")


def wanted(case: Case, options: argparse.Namespace, missing: Sequence[str]) -> bool:
    """Whether the options choose a case, and its packages are there."""
    chosen = options.contenders is None or case.name in options.contenders
    return chosen and case.precision in options.precisions and not (missing and case.name in TORCH)


def told(row: dict[str, Any]) -> str:
    """A row's figures, or why it has none."""
    if "images_per_second" not in row:
        return str(row["note"])
    share = f", {row['share_of_peak']:.1%} of the peak" if row["share_of_peak"] else ""
    rates = (
        "{images_per_second:,.0f} images/s ({images_per_second_low:,.0f} to {images_per_second_high:,.0f})"
    )
    return f"{rates.format(**row)}, {row['teraflops']:.1f} TFLOP/s{share}"


if __name__ == "__main__":
    with reported():
        main()
