"""Benchmarks of training and start-up, from end to end, on next to nothing; and the page made of them."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_googlenet import UserError

ROOT = Path(__file__).parents[1]
SMALL = ["--rounds", "1", "--seconds", "0.01", "--image-sizes", "96", "--batch-sizes", "4"]


@pytest.fixture
def folders(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.syspath_prepend(ROOT / "scripts")


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def run(script, *arguments, env=None):
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | (env or {}))


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "contenders"), [("tensorflow", 8), ("jax", 2)])
def test_training(backend, contenders, tmp_path):
    chosen = ["--contenders", "bn"] if backend == "jax" else []
    result = run("training.py", *SMALL, "--to", tmp_path, "--backend", backend, *chosen)
    assert result.returncode == 0, result.stderr[-2000:]
    found = rows(tmp_path / "training.csv")
    torch = "not installed, and not measured: torch" in result.stdout
    assert len(found) == contenders - (2 * torch if backend == "tensorflow" else 0)
    assert {row["backend"] for row in found} == {backend}
    assert all(float(row["images_per_second"]) > 0 and row["machine"] for row in found)
    assert float(found[0]["ratio"]) == 1
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_training_on_small_images(tmp_path):
    options = ["--rounds", 1, "--seconds", 0.01, "--image-sizes", 32, "--batch-sizes", 8]
    result = run("training.py", *options, "--to", tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    found = rows(tmp_path / "training_small.csv")
    assert len(found) == 6
    for plain, ours in zip(found[::2], found[1::2], strict=True):
        assert ours["ratio_to"] == plain["contender"] == ours["contender"].replace("ours", "plain Keras")
        assert ours["parameters"] == plain["parameters"]


@pytest.mark.ci
def test_gpu_on_a_processor(tiny_variant, tmp_path):
    steady = tmp_path / "steady.json"  # without dropout: its loss falls in a few steps
    steady.write_text(json.dumps(json.loads(tiny_variant.read_text()) | {"dropout": 0.0}))
    chosen = ["--variants", steady, "--contenders", steady, "breakdown", "--precisions", "bfloat16"]
    small = ["--image-sizes", 28, "--batch-sizes", 4, "--rounds", 1, "--seconds", 0.01, "--peak-tflops", 0.5]
    result = run("gpu.py", "--device", "cpu", *chosen, *small, "--to", tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    published, *found = rows(tmp_path / "gpu.csv")
    assert float(published["images_per_second"]) == 2260
    assert [(row["batch_size"], row["note"]) for row in found] == [
        ("4", ""), ("4", "see gpu_time.csv"), ("2", ""),
    ]  # fmt: skip
    for row in (found[0], found[2]):
        images, milliseconds = float(row["images_per_second"]), float(row["ms_per_step"])
        assert images * milliseconds == pytest.approx(1e3 * int(row["batch_size"]), rel=1e-3)
        assert float(row["share_of_peak"]) == pytest.approx(float(row["teraflops"]) / 0.5, rel=1e-3)
    times = rows(tmp_path / "gpu_time.csv")
    assert [row["kind"] for row in times if row["of"] == "step"] == [
        "whole step", "whole step, its batch from the host's memory", "forward", "forward and backward",
    ]  # fmt: skip
    shares = [float(row["share"]) for row in times if row["of"] == "kernels"]
    assert sum(shares) == pytest.approx(1, abs=1e-2)


@pytest.mark.ci
def test_gpu_skips_what_does_not_fit_in_its_time_and_says_if_there_is_no_gpu(tmp_path):
    chosen = ["--contenders", "bn", "--minutes", 0.5, "--to", tmp_path]
    result = run("gpu.py", "--device", "cpu", *chosen)
    assert result.returncode == 0, result.stderr[-2000:]
    assert all("skipped" in row["note"] for row in rows(tmp_path / "gpu.csv")[1:])
    result = run("gpu.py", "--to", tmp_path / "none", env={"JAX_PLATFORMS": "cpu"})
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith("error: no GPU that JAX could use")
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_cold_start(tmp_path):
    result = run("cold_start.py", "--rounds", 1, "--image-size", 80, "--to", tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    found = {row["process"]: row for row in rows(tmp_path / "cold_start.csv")}
    assert found["keras-googlenet --help"]["promised_seconds"] == "0.3"
    assert float(found["keras-googlenet predict"]["seconds"]) > float(found["python -c pass"]["seconds"])
    assert (tmp_path / "cold_start.png").is_file()


@pytest.mark.slow
def test_two_processes(tmp_path):
    small = ["--width", 0.125, "--batch-size", 2, "--rounds", 1, "--steps", 1]
    result = run("two_processes.py", *small, "--to", tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    own, halved, synchronized = rows(tmp_path / "two_processes.csv")
    assert (own["exchanges"], halved["exchanges"]) == ("1", "2")
    assert int(synchronized["exchanges"]) > 100
    for row in (own, halved, synchronized):
        assert float(row["sum_of_two"]) > 0
        expected = sum(float(row[name]) for name in ("step_of_one", "sum_of_two"))
        expected += int(row["exchanges"]) * float(row["latency"])
        assert float(row["expected"]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.usefixtures("folders")
def test_formulas_of_scaling():
    import make_scaling as scaling

    assert scaling.hours_per_million(1e6 / 3600) == 1
    assert scaling.ring_bytes(1, 4, parameters=10) == 0
    assert scaling.ring_bytes(2, 4, parameters=10) == 40
    assert scaling.ring_bytes(64, 2, parameters=64) == 2 * 63 * 2
    assumed = scaling.Assumed(images_per_second=100, network_bytes=1e6, local_bytes=1e9, gpus_in_machine=8)
    assert scaling.rate(1, 50, 4, 1000, assumed) == pytest.approx(100)
    for devices, bytes_per_second in ((8, 1e9), (9, 1e6)):
        expected = scaling.ring_bytes(devices, 4, 1000) / bytes_per_second
        assert scaling.ring_seconds(devices, 4, 1000, assumed) == pytest.approx(expected)


@pytest.mark.usefixtures("folders")
def test_page_of_scaling_is_made_of_results(tmp_path):
    import make_scaling as scaling

    with pytest.raises(UserError, match=r"training\.csv is missing: run benchmarks/training\.py"):
        scaling.main(["--results", str(tmp_path), "--to", str(tmp_path / "s.md")])
    lines = {
        "training": (
            "date,machine,contender,precision,image_size,batch_size,images_per_second,parameters,teraflops",
            '2030-01-01,A machine,"ours, bn, auto",bfloat16,224,32,100,2000000,0.5',
        ),
        "serving": (
            "contender,clients,variant,image_size,batch_size,images_per_second",
            '"preview, gRPC",1,bn,224,8,50',
        ),
        "two_processes": (
            "machine,date,batch_statistics,variant,width,image_size,batch_size,parameters,step_of_one,sum_of_two,exchanges,latency,"
            "expected,step_of_two,expected_to_measured,efficiency",
            "Another,2030-01-02,of each device,bn,0.5,80,8,1000,0.1,0.02,1,0.001,0.121,0.12,1.01,0.83",
            "Another,2030-01-02,of all devices,bn,0.5,80,8,1000,0.1,0.02,10,0.001,0.13,0.15,0.87,0.67",
        ),
    }
    for name, text in lines.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(text) + "\n")
    scaling.main(["--results", str(tmp_path), "--to", str(tmp_path / "s.md")])
    page = (tmp_path / "s.md").read_text()
    assert "| training, bn, auto (bfloat16) | 224 | 32 | 100.0 | 2.78 |" in page
    assert "| serving JPEG, bn | 224 | 8 | 50.0 | 5.56 |" in page
    assert "Another; 2030-01-02" in page
    assert "| of each device | 100.0 ms | 20.0 ms | 1.0 ms | 1 | 121.0 ms | 120.0 ms | 1.01 | 0.83 |" in page
    assert "| of all devices | 100.0 ms | 20.0 ms | 1.0 ms | 10 | 130.0 ms | 150.0 ms | 0.87 | 0.67 |" in page
    assert "2,000,000 trainable parameters" in page
    assert "25 TFLOP/s" in page
    assert "A machine; 2030-01-01" in page


@pytest.mark.ci
@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("training.py", ["--image-sizes", "32", "--contenders", "nothing"]),
        pytest.param(  # it exports all networks first
            "inference.py",
            ["--variants", "bn", "--image-size", "32", "--contenders", "openvino"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_contenders_that_are_none_are_refused(script, line, tmp_path):
    done = run(script, *line, "--to", tmp_path / "results")
    assert done.returncode == 2
    assert "error: expected --contenders of" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()
