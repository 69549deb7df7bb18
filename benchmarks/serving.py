"""Throughput of the preview on JPEG images: against the bare SavedModel, and with batching.

    python benchmarks/serving.py [--variant bn] [--image-size 224]

Exports a network of 1,000 classes once. The bare SavedModel runs in this process, through TensorFlow's
loader. Two previews run in separate processes, one of them with batching. First one client sends the same
JPEG files to the bare SavedModel and to the preview, one request after another, at several batch sizes.
Then several clients send single images to both previews at once. All outputs are compared before timing.

Writes `serving.csv` and a plot of it.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")  # as in the preview and in serving/

import grpc
import httpx
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from photographs import copy_photographs, synthesize
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from timing import Spread, alternate, circumstances, ratio, spread, write_csv

from keras_googlenet import GoogLeNet, export_saved_model
from keras_googlenet.data.folders import find_images
from keras_googlenet.errors import UserError, reported
from keras_googlenet.serving import Client
from keras_googlenet.session import SavedModelSession

BATCHING = Path(__file__).parents[1] / "serving/batching_parameters.txt"
MODEL = "googlenet"
BARE, REST, GRPC, BATCHED = "bare SavedModel", "preview, REST", "preview, gRPC", "preview, gRPC, batching"
COLORS = {BARE: "#404040", REST: "#c55a11", GRPC: "#1f4e79", BATCHED: "#2e8b57"}
TIMEOUT = 120  # seconds

Send = Callable[[Sequence[bytes]], np.ndarray]  # encoded images to probabilities (images, classes)


# --- contenders ------------------------------------------------------------------------------------


def bare(version: Path) -> Send:
    """The SavedModel in this process, as TensorFlow Serving loads it."""
    session = SavedModelSession(version)
    return lambda files: session.run("serving_default", {"images": np.array(files, object)})["probabilities"]


def over_rest(address: str) -> Send:
    """The preview over HTTP."""
    http = httpx.Client(base_url=f"http://{address}", timeout=TIMEOUT)

    def send(files: Sequence[bytes]) -> np.ndarray:
        rows = [{"b64": base64.b64encode(file).decode()} for file in files]
        answer = http.post(f"/v1/models/{MODEL}:predict", content=json.dumps({"inputs": rows}))
        return np.array(answer.raise_for_status().json()["outputs"]["probabilities"], "float32")

    return send


def over_grpc(address: str) -> Send:
    """The preview over gRPC."""
    stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(address))

    def send(files: Sequence[bytes]) -> np.ndarray:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = MODEL
        request.inputs["images"].CopyFrom(tf.make_tensor_proto(np.array(files, object)))
        return tf.make_ndarray(stub.Predict(request, TIMEOUT).outputs["probabilities"])

    return send


@contextmanager
def preview(model: Path, *options: str) -> Iterator[tuple[str, str]]:
    """Start a preview in a separate process; yields its REST and gRPC addresses once it is ready."""
    rest, remote = free_port(), free_port()
    command = [sys.executable, "-m", "keras_googlenet.cli", "serve", str(model), *options]
    ports = ["--rest-port", str(rest), "--grpc-port", str(remote)]
    server = subprocess.Popen([*command, *ports], stdout=subprocess.DEVNULL)
    try:
        with Client(f"http://127.0.0.1:{rest}", model=model.name) as client:
            client.wait_until_ready(TIMEOUT)
        yield f"127.0.0.1:{rest}", f"127.0.0.1:{remote}"
    finally:
        server.terminate()
        server.wait(TIMEOUT)


def for_this_machine(folder: Path) -> Path:
    """The batching parameters of `serving/`, set for this machine's cores as its README says."""
    cores = rf"\1 {{ value: {os.cpu_count()} }}"
    per_core = r"(num_batch_threads|max_enqueued_batches) \{ value: \d+ \}"
    (folder / BATCHING.name).write_text(re.sub(per_core, cores, BATCHING.read_text()))
    return folder / BATCHING.name


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- measuring -------------------------------------------------------------------------------------


def one_after_another(send: Send, files: Sequence[bytes], batch: int, seconds: float) -> float:
    """Images/s of one client that waits for each response."""
    begun = time.perf_counter()
    for request in count():
        start = request * batch % (len(files) - batch + 1)
        send(files[start : start + batch])
        if (taken := time.perf_counter() - begun) >= seconds:
            return (request + 1) * batch / taken
    raise AssertionError("count() has no end")


def many_at_once(sends: Sequence[Send], files: Sequence[bytes], seconds: float) -> float:
    """Images/s of several clients that send single images concurrently."""
    answered = [0] * len(sends)
    begun = time.perf_counter()

    def client(number: int) -> None:
        while time.perf_counter() - begun < seconds:
            sends[number]([files[(answered[number] + number) % len(files)]])
            answered[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(len(sends))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(answered) / (time.perf_counter() - begun)


def check_alike(senders: dict[str, Send], files: Sequence[bytes]) -> None:
    """Check that all contenders return the same probabilities for the same images.

    Raises:
        UserError: They do not.
    """
    answers = {name: send(files) for name, send in senders.items()}
    for name, answer in answers.items():
        difference = np.abs(answer - answers[BARE]).max()
        if not difference <= 1e-5:
            raise UserError(f"expected the answers of {BARE} from {name}, which differ by {difference:.2g}")


def row(clients: int, batch: int, name: str, rates: list[float], of_base: list[float]) -> dict[str, Any]:
    """A contender's images/s, and the ratio to another contender, round by round."""
    columns: dict[str, Any] = {"clients": clients, "batch_size": batch, "contender": name}
    for of, figures in (("images_per_second", spread(rates)), ("ratio", ratio(rates, of_base))):
        columns |= {of: figures.median, f"{of}_low": figures.low, f"{of}_high": figures.high}
    return columns


# --- report ----------------------------------------------------------------------------------------


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a text table."""
    form = "{:>7} {:>6}  {:26} {:>24} {:>20}"
    lines = [form.format("clients", "batch", "contender", "images/s (spread)", "ratio (spread)")]
    for one in rows:
        rate, ratios = (
            f"{s.median:.{d}f} ({s.low:.{d}f}-{s.high:.{d}f})"
            for s, d in ((of_row(one, "images_per_second"), 1), (of_row(one, "ratio"), 2))
        )
        lines.append(form.format(one["clients"], one["batch_size"], one["contender"], rate, ratios))
    return "\n".join(lines)


def of_row(one: dict[str, Any], name: str) -> Spread:
    """The spread in a row."""
    return Spread(one[name], one[f"{name}_low"], one[f"{name}_high"])


def draw(rows: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Plot images/s with their spread, and each ratio at the end of its bar."""
    figure = Figure(figsize=(9, 1 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, one in enumerate(rows):
        rate = of_row(one, "images_per_second")
        error = [[rate.median - rate.low], [rate.high - rate.median]]
        axes.barh(place, rate.median, xerr=error, color=COLORS[one["contender"]], capsize=3)
        text = f"{rate.median:.0f}  ({one['ratio']:.2f})"
        axes.text(rate.high, place, f"  {text}", va="center", fontsize=8)
    names = [f"{one['contender']}; {one['clients']} x {one['batch_size']}" for one in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel(
        "images a second, by clients x batch size (in brackets: of one client, times the bare SavedModel; "
        "of several, times no batching)",
        fontsize=8,
    )
    axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of class folders of photographs; else synthesized")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--variant", default="bn")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="in a round, of each contender")
    parser.add_argument("--to", type=Path, default=Path("results"), help="folder of the figures (results)")
    options = parser.parse_args(arguments)
    rows = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "images").mkdir()
        if options.data is None:
            synthesize(folder / "images", options.images)
        else:
            copy_photographs(options.data, folder / "images", options.images)
        files = [path.read_bytes() for path in find_images(folder / "images")]
        if len(files) < max(options.batch_sizes):
            raise UserError(f"expected {max(options.batch_sizes)} images, one batch; found {len(files)}")
        side = options.image_size
        network = GoogLeNet(variant=options.variant, input_shape=(side, side, 3), aux_heads=False)
        version = export_saved_model(network, folder / MODEL)
        rest, plain = stack.enter_context(preview(folder / MODEL))
        batching = ["--enable-batching", "--batching-parameters-file", str(for_this_machine(folder))]
        _, batched = stack.enter_context(preview(folder / MODEL, *batching))

        senders = {BARE: bare(version), REST: over_rest(rest), GRPC: over_grpc(plain)}
        check_alike(senders | {BATCHED: over_grpc(batched)}, files[: max(options.batch_sizes)])
        for batch in options.batch_sizes:
            contenders = {
                name: partial(one_after_another, send, files, batch, options.seconds)
                for name, send in senders.items()
            }
            rates = alternate(contenders, options.rounds)
            rows += [row(1, batch, name, found, rates[BARE]) for name, found in rates.items()]
            print(table(rows[-len(rates) :]), flush=True)
        contenders = {
            name: partial(
                many_at_once, [over_grpc(address) for _ in range(options.clients)], files, options.seconds
            )
            for name, address in ((GRPC, plain), (BATCHED, batched))
        }
        for measure in contenders.values():
            measure()  # opens connections and warms up each batch size
        rates = alternate(contenders, options.rounds)
        rows += [row(options.clients, 1, name, found, rates[GRPC]) for name, found in rates.items()]
        print(table(rows[-len(rates) :]))
    common = circumstances("keras", "tensorflow", "grpcio") | {
        "variant": options.variant,
        "image_size": side,
        "data": "synthesized" if options.data is None else "photographs",
        "images": len(files),
        "rounds": options.rounds,
        "seconds": options.seconds,
    }
    write_csv(options.to / "serving.csv", [common | one for one in rows])
    title = f"JPEG images answered, {options.variant} at {side} x {side}: {common['machine']}"
    draw(rows, title, options.to / "serving.png")
    print(f"wrote {options.to / 'serving.csv'} and {options.to / 'serving.png'}")


if __name__ == "__main__":
    with reported():
        main()
