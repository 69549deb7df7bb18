"""Load test of a served model: throughput and latency for images.

    pip install "keras-googlenet[load]"
    python serving/load_test.py --url http://127.0.0.1:8501/v1/models/googlenet --images photos \
        --users 16 --seconds 30 --to load.png

Locust's users send requests one after another, over REST and a connection each. Prints requests and images
per second, the median, 95th and 99th percentile of latency, and failures by reason, or the same as JSON, and
writes a picture. Exits with 1 if a request failed, and with 2 if none could be sent.
"""

from __future__ import annotations

# Locust replaces the standard library's sockets, so it comes before all that import them.
from locust import FastHttpUser, constant, task  # isort: skip
from locust.env import Environment  # isort: skip

import argparse
import base64
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import numpy as np
from matplotlib.figure import Figure

from keras_googlenet.errors import UserError, reported
from keras_googlenet.serving import Client
from keras_googlenet.serving.client.images import encode, find_files
from keras_googlenet.text import printable, say

TIMEOUT_SECONDS = 60  # of one request
MOST_IMAGES = 256  # held in memory, sent in turn
QUANTILES = {"p50": 50, "p95": 95, "p99": 99}
PICTURES = (".png", ".svg", ".pdf")
BLUE, ORANGE, RED = "#1f4e79", "#c55a11", "#b00020"


@dataclass(frozen=True)
class Sample:
    """One request: when it started, in seconds from the first, how long it took, and why it failed."""

    start: float
    milliseconds: float
    failure: str | None


def run(url: str, bodies: Sequence[str], users: int, seconds: float) -> list[Sample]:
    """Send `bodies` in turn to `url`, by this many concurrent users, for this long."""
    server, path = url.split("/v1/", 1)
    turn = itertools.cycle(bodies)
    samples: list[Sample] = []

    class User(FastHttpUser):
        host = server
        wait_time = constant(0)
        connection_timeout = network_timeout = TIMEOUT_SECONDS

        @task
        def predict(self) -> None:
            with self.client.post(f"/v1/{path}:predict", data=next(turn), catch_response=True) as response:
                if response.status_code == 200 and b'"outputs"' not in (response.content or b"")[:40]:
                    response.failure("an answer without outputs")

    environment = Environment(user_classes=[User], stop_timeout=TIMEOUT_SECONDS)
    first = time.time()

    def record(
        response_time: float, exception: Exception | None, start_time: float, response: Any, **_: Any
    ) -> None:
        failure = None if exception is None else _reason(exception, response)
        samples.append(Sample(start_time - first, response_time, failure))

    environment.events.request.add_listener(record)
    runner = environment.create_local_runner()
    runner.start(users, spawn_rate=users)
    try:
        gevent.sleep(seconds)
    finally:
        runner.quit()  # once the requests under way are answered
    return samples


def _reason(exception: Exception, response: Any) -> str:
    status = getattr(response, "status_code", 0)
    if not status:
        return f"no answer: {' '.join(str(exception).split())[:80]}"
    return f"{status}: {' '.join((response.text or str(exception)).split())[:80]}"


def summary(samples: Sequence[Sample], batch: int) -> dict[str, Any]:
    """The figures of a run, as printed."""
    answered = [sample for sample in samples if sample.failure is None]
    elapsed = max((sample.start + sample.milliseconds / 1000 for sample in samples), default=0)
    rate = len(answered) / elapsed if elapsed else 0
    times = [sample.milliseconds for sample in answered]
    return {
        "seconds": round(elapsed, 2),
        "requests": len(samples),
        "requests_per_second": round(rate, 2),
        "images_per_second": round(rate * batch, 2),
        "milliseconds": {
            name: round(float(np.percentile(times, q)), 1) if times else None for name, q in QUANTILES.items()
        },
        "failures": dict(Counter(sample.failure for sample in samples if sample.failure).most_common()),
    }


def draw(samples: Sequence[Sample], figures: dict[str, Any], title: str, to: Path) -> None:
    """The latency of each request, over the run and as a distribution."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    over_time, distribution = figure.subplots(1, 2, width_ratios=(3, 1), sharey=True)
    figure.suptitle(printable(title), x=0.01, ha="left", fontsize=12, parse_math=False)
    answered = [sample for sample in samples if sample.failure is None]
    failed = [sample for sample in samples if sample.failure is not None]
    times = [sample.milliseconds for sample in answered]
    over_time.plot(
        [s.start for s in answered], times, ".", ms=5, alpha=0.5, mew=0, color=BLUE, label="an answer"
    )
    if failed:
        late = [s.milliseconds for s in failed]
        label = _count(len(failed), "failure")
        over_time.plot([s.start for s in failed], late, "x", ms=6, color=RED, label=label)
    if times:
        distribution.hist(times, bins=40, orientation="horizontal", color=BLUE, alpha=0.75)
        for (name, value), style in zip(figures["milliseconds"].items(), ("-", "--", ":"), strict=True):
            over_time.axhline(value, color=ORANGE, ls=style, lw=1.5, label=f"{name} {value:g} ms")
            distribution.axhline(value, color=ORANGE, ls=style, lw=1.5)
    for axes in (over_time, distribution):
        axes.grid(axis="y", alpha=0.3)
    over_time.set(
        xlabel="started after (s)", ylabel="time to the answer (ms)", xlim=(0, None), ylim=(0, None)
    )
    distribution.set(xlabel="answers")
    figure.legend(*over_time.get_legend_handles_labels(), loc="outside lower left", ncols=5, frameon=False)
    figure.savefig(to, dpi=150)


def request_bodies(images: Sequence[Path], batch: int) -> list[str]:
    """The bodies of `:predict` requests of `batch` images each."""
    files = find_files(images)[: max(MOST_IMAGES, batch)]
    files = [*itertools.islice(itertools.cycle(files), max(len(files), batch))]
    inputs = [{"b64": base64.b64encode(encode(file, str(file)).data).decode()} for file in files]
    starts = range(0, len(inputs) - batch + 1, batch)
    return [json.dumps({"inputs": {"images": inputs[start : start + batch]}}) for start in starts]


def text(figures: dict[str, Any], batch: int) -> str:
    """The figures as lines."""
    times = figures["milliseconds"]
    requests, images = figures["requests_per_second"], figures["images_per_second"]
    lines = [
        f"{_count(figures['requests'], 'request')} of {_count(batch, 'image')} in {figures['seconds']:g} s",
        f"answered   {requests:g} requests/s, {images:g} images/s",
    ]
    if times["p50"] is not None:
        lines.append("latency    " + ", ".join(f"{name} {value:g} ms" for name, value in times.items()))
    lines += [f"failed     {count} x {reason}" for reason, count in figures["failures"].items()]
    return "\n".join(lines)


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", required=True, help="http://127.0.0.1:8501/v1/models/googlenet")
    parser.add_argument(
        "--images", type=Path, nargs="+", required=True, help="image files, and folders of them"
    )
    parser.add_argument("--users", type=int, default=16, help="how many send at once (16)")
    parser.add_argument("--seconds", type=float, default=30, help="for how long (30)")
    parser.add_argument("--batch", type=int, default=1, help="images a request (1)")
    parser.add_argument("--to", type=Path, default=Path("load.png"), help="the picture's file (load.png)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args(arguments)
    if options.users < 1 or options.batch < 1 or options.seconds <= 0:
        raise UserError("expected --users and --batch of 1 or more, and --seconds above 0")
    if options.to.exists():
        raise UserError(f"{options.to} exists: choose another file with --to")
    if options.to.suffix not in PICTURES or not options.to.parent.is_dir():
        raise UserError(
            f"expected --to FILE, one of {', '.join(PICTURES)}, in a folder that is there: {options.to}"
        )
    if not options.url.startswith(("http://", "https://")):
        raise UserError(f"the load test goes over REST: expected http://..., got {options.url}")
    bodies = request_bodies(options.images, options.batch)
    with Client(options.url, retries=0) as client:  # an unreachable server is reported at once
        client.predict(find_files(options.images)[0])
        url = str(client.address)
    samples = run(url, bodies, options.users, options.seconds)
    figures = summary(samples, options.batch)
    circumstances = {"url": url, "users": options.users, "batch": options.batch}
    say(json.dumps(circumstances | figures, indent=2) if options.json else text(figures, options.batch))
    load = f"{_count(options.users, 'user')}, {_count(options.batch, 'image')} a request"
    draw(samples, figures, f"{url}\n{load}: {figures['images_per_second']:.4g} images/s", options.to)
    failures = sum(figures["failures"].values())
    if failures or not samples:
        say(f"{failures} of {len(samples)} requests failed", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    with reported():
        sys.exit(main())
