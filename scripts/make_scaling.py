"""Write docs/scaling.md, the cost of large data sets, from the benchmarks' CSV files.

    python scripts/make_scaling.py --results benchmarks/results --to docs/scaling.md

Measured figures come from the files; assumptions come from `ASSUMED` and are marked as such on the page. The
formulas are the functions below.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from destination import destination

from keras_googlenet.errors import UserError, reported
from keras_googlenet.text import say

IMAGENET_IMAGES = 1_281_167  # ILSVRC 2012, training
JPEG_BYTES = 110_000  # mean of its files
EPOCHS = 60  # of the BVLC solver: 2.4 million steps of 32 images
NETWORK = {"contender": "ours, bn, auto", "image_size": "224"}  # of benchmarks/training.py


@dataclass(frozen=True)
class Assumed:
    """Figures that were not measured."""

    images_per_second: float = 5000  # of one GPU
    network_bytes: float = 25e9  # a second, each way, of one machine's link: 200 Gbit/s
    local_bytes: float = 200e9  # a second, each way, between the GPUs of a machine
    gpus_in_machine: int = 8
    decoding: float = 250  # JPEG files of ImageNet's size a second, of one core


ASSUMED = Assumed()


# --- the formulas ----------------------------------------------------------------------------------


def hours_per_million(images_per_second: float) -> float:
    """Device-hours for a million images."""
    return 1e6 / images_per_second / 3600


def ring_bytes(devices: int, value_bytes: int, parameters: int) -> float:
    """Bytes that each device sends and receives in a ring all-reduce of the gradients."""
    return 2 * (devices - 1) / devices * parameters * value_bytes


def ring_seconds(devices: int, value_bytes: int, parameters: int, assumed: Assumed = ASSUMED) -> float:
    """Seconds of the ring all-reduce, at the speed of its slowest link."""
    slowest = assumed.local_bytes if devices <= assumed.gpus_in_machine else assumed.network_bytes
    return ring_bytes(devices, value_bytes, parameters) / slowest


def rate(devices: int, batch: int, value_bytes: int, parameters: int, assumed: Assumed = ASSUMED) -> float:
    """Images/s of all devices, if communication does not overlap with computation."""
    exchange = ring_seconds(devices, value_bytes, parameters, assumed)
    return devices * batch / (batch / assumed.images_per_second + exchange)


# --- the page --------------------------------------------------------------------------------------


def read(folder: Path, name: str) -> list[dict[str, str]]:
    """The rows of a benchmark.

    Raises:
        UserError: The file is missing or corrupt.
    """
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise UserError(f"{path} is missing: run benchmarks/{name}.py")
    try:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a table ({error}): run benchmarks/{name}.py again") from None


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def costs(training: list[dict[str, str]], serving: list[dict[str, str]]) -> str:
    """The table of device-hours for a million images."""
    rows = []
    for row in training:
        if row["contender"].startswith("ours"):
            what = f"training, {row['contender'].removeprefix('ours, ')} ({row['precision']})"
            rows.append((what, row["image_size"], row["batch_size"], row["images_per_second"]))
    for row in serving:
        if row["contender"] == "preview, gRPC" and row["clients"] == "1":
            rows.append(
                (
                    f"serving JPEG, {row['variant']}",
                    row["image_size"],
                    row["batch_size"],
                    row["images_per_second"],
                )
            )
    return table(
        ("work", "image", "batch", "images/s, measured", "device-hours for a million, computed"),
        [(w, s, b, f"{float(r):.1f}", f"{hours_per_million(float(r)):.2f}") for w, s, b, r in rows],
    )


def imagenet(parameters: int) -> str:
    """The table for ImageNet on 1, 8 and 64 GPUs."""
    rows = []
    for devices in (1, 8, 64):
        batch = 128
        found = rate(devices, batch, 4, parameters)
        sent, seconds = (
            [each(devices, value_bytes, parameters) for value_bytes in (4, 2)]
            for each in (ring_bytes, ring_seconds)
        )
        hours = EPOCHS * IMAGENET_IMAGES / found / 3600
        rows.append(
            (
                str(devices),
                f"{batch} ({devices * batch:,})",
                f"{sent[0] / 1e6:.0f} / {sent[1] / 1e6:.0f} MB",
                f"{1e3 * seconds[0]:.2f} / {1e3 * seconds[1]:.2f} ms",
                f"{found:,.0f} ({found / devices / ASSUMED.images_per_second:.0%})",
                f"{found * JPEG_BYTES / 1e6:,.0f} MB/s",
                f"{found / ASSUMED.decoding:,.0f}",
                f"{hours:.1f} h",
            )
        )
    head = (
        "GPUs", "batch of each (of all)", "gradients sent by each, float32 / bfloat16", "their time",
        "images/s (of the ideal)", "JPEG read", "cores that decode", f"{EPOCHS} epochs",
    )  # fmt: skip
    return table(head, rows)


def checked(rows: Sequence[dict[str, str]]) -> str:
    """The table that compares the model with two processes, in each mode."""
    times = ("step_of_one", "sum_of_two", "latency", "expected", "step_of_two")
    lines = []
    for row in rows:
        cells = [f"{1e3 * float(row[name]):.1f} ms" for name in times]
        cells.insert(3, row["exchanges"])
        ratios = [f"{float(row[name]):.2f}" for name in ("expected_to_measured", "efficiency")]
        lines.append((row["batch_statistics"], *cells, *ratios))
    return table(
        (
            "batch statistics",
            "step of one process",
            "sum of the gradients",
            "sum of one number",
            "exchanges",
            "step of two, expected",
            "measured",
            "expected / measured",
            "efficiency",
        ),
        lines,
    )


def page(folder: Path) -> str:
    """The text of docs/scaling.md."""
    training, serving = read(folder, "training"), read(folder, "serving")
    processes = read(folder, "two_processes")
    two = processes[0]
    (network,) = (row for row in training if NETWORK.items() <= row.items())
    parameters = int(network["parameters"])
    teraflops_an_image = float(network["teraflops"]) / float(network["images_per_second"])
    limits = f"{ASSUMED.images_per_second * teraflops_an_image:.0f} TFLOP/s"
    setting = f"`{two['variant']}` at width {two['width']}, {int(two['parameters']):,} parameters"
    return f"""# Scale on paper

Made by `scripts/make_scaling.py` from the CSV files in `benchmarks/results`. Measured is what those files
hold ({training[0]["machine"]}; {training[0]["date"]}); all else is computed by the formulas given, from
measured and assumed figures. A "device" is that machine as a whole.

## A million images

{costs(training, serving)}

Device-hours = 10^6 / (images/s) / 3600. Training is a step with three heads, its batch in the memory
already; `benchmarks/results/input_pipeline.csv` says what feeds it. Serving takes JPEG files over gRPC, one
client. What limits both is the processor: its arithmetic in the convolutions, and between them its memory,
for batch normalization, ReLU and pools touch every value and compute next to nothing.

## ImageNet

{IMAGENET_IMAGES:,} training images of {JPEG_BYTES / 1e3:.0f} KB, {EPOCHS} epochs (the BVLC solver's 2.4
million steps of 32 images), 224 x 224, `bn` with three heads: {parameters:,} trainable parameters.
**Assumed**, not measured: {ASSUMED.images_per_second:,.0f} images/s of one GPU ({limits}, a twentieth of an
H100's peak in bfloat16; `benchmarks/gpu.py` measures it), {ASSUMED.local_bytes / 1e9:.0f}
GB/s each way between the {ASSUMED.gpus_in_machine} GPUs of a machine,
{ASSUMED.network_bytes / 1e9:.0f} GB/s between machines, {ASSUMED.decoding:.0f} JPEG files a second of a core.

{imagenet(parameters)}

- Gradients, ring all-reduce of N: each device sends 2 (N - 1) / N x parameters x 4 bytes (2 in bfloat16).
  `train` exchanges float32; `--gradient-exchange bfloat16` halves the bytes.
- Their time = those bytes / the slowest link's bytes a second.
- Images/s = N x batch / (batch / rate of one + their time): none of the exchange hidden behind the computing.
- JPEG read = images/s x bytes of a file. Cores that decode = images/s / files a second of a core.
- Time = epochs x images / (images/s). At this rate a GPU waits for JPEG first: decode once, on more machines,
  or keep the images at 256 pixels. The batch of 64 GPUs needs another learning rate and a warm-up.

## Checked

`python benchmarks/two_processes.py`: {setting}, batches of {two["batch_size"]} images of
{two["image_size"]} x {two["image_size"]} for each process, JAX, one core each, loopback;
{two["machine"]}; {two["date"]}.

{checked(processes)}

Expected = step of one + sum of the gradients + exchanges x sum of one number. Efficiency = step of one / step
of two. By default each process takes the batch statistics of its own images, and a step has one exchange:
the sum of gradients, running means and metrics. With `--gradient-exchange bfloat16` the gradients are one
exchange, the others a second. With `--sync-batch-norm` each gradient is a sum by itself, and each batch
normalization takes four: mean, variance and the gradients of both.

The model has no term for the time that a process waits in an exchange until the other one arrives. This time
grows with the number of exchanges, so the model is too low for `--sync-batch-norm`. The table of GPUs counts
bytes alone, as for one exchange a step.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of the CSV files (results)"
    )
    parser.add_argument("--to", type=Path, help="the page's file (scaling.md)")
    options = parser.parse_args(arguments)
    to = destination(options.to, "scaling.md")
    try:
        text = page(options.results)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"a table in {options.results} lacks figures ({error!r}): run the benchmarks again"
        ) from None
    to.write_text(text)
    say(f"wrote {to}")


if __name__ == "__main__":
    with reported():
        main()
