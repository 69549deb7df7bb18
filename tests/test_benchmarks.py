"""The benchmarks run from end to end, on next to nothing: what they measure here says nothing."""

import csv
import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from keras_googlenet import UserError
from keras_googlenet.cli import app
from keras_googlenet.export import targets
from keras_googlenet.run.recipes import recipe_options

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.fixture
def photographs(tmp_path, random):
    folder = tmp_path / "photographs"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for index in range(12):
            image = cv2.resize(random.integers(0, 256, (5, 6, 3), dtype=np.uint8), (60, 50))
            cv2.imwrite(str(folder / name / f"{index}.jpg"), image)
    return folder


@pytest.mark.usefixtures("benchmarks")
def test_rounds_alternate():
    from timing import alternate, fastest, ratio

    called = []

    def contender(name):
        return lambda: called.append(name) or len(called)

    figures = alternate({name: contender(name) for name in "abc"}, rounds=3)
    assert "".join(called) == "abcbcacab"
    assert figures == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}
    assert fastest(figures) == "a"
    spread = ratio(figures["a"], figures["b"])
    assert (spread.median, spread.low, spread.high) == (8 / 9, 1 / 2, 6 / 4)


@pytest.mark.usefixtures("benchmarks")
def test_input_pipeline(photographs, tmp_path, capsys):
    import input_pipeline

    files = ["--data", str(photographs), "--to", str(tmp_path / "results"), "--images", "16"]
    batches = ["--augment", "flip", "--image-size", "32", "--batch-size", "8"]
    input_pipeline.main([*files, *batches, "--rounds", "1", "--seconds", "0.05"])
    with (tmp_path / "results/input_pipeline.csv").open() as file:
        rows = list(csv.DictReader(file))
    pipelines = ["OURS", "OURS_EACH_TIME", "ON_BATCHES", "ON_IMAGES", "CACHED"]
    assert [row["pipeline"] for row in rows] == [getattr(input_pipeline, name) for name in pipelines]
    assert {(row["data"], row["images"], row["augment"]) for row in rows} == {("photographs", "16", "flip")}
    for row in rows:
        assert float(row["images_per_second"]) > 0
        assert row["machine"]
    assert "ours, decoding in every epoch" in capsys.readouterr().out
    assert (tmp_path / "results/input_pipeline.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("benchmarks")
def test_input_pipeline_synthesizes_images_and_refuses_too_few(tmp_path):
    import input_pipeline

    with pytest.raises(UserError, match="expected 8 images at least, for one batch; found 4"):
        input_pipeline.main(["--images", "4", "--batch-size", "8", "--to", str(tmp_path)])
    with pytest.raises(UserError, match="expected a folder for each class"):
        input_pipeline.main(["--data", str(tmp_path / "nowhere"), "--to", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("benchmarks")
def test_serving(photographs, tmp_path):
    import serving

    files = ["--data", str(photographs), "--to", str(tmp_path / "results"), "--images", "16"]
    network = ["--image-size", "80", "--batch-sizes", "1", "4", "--clients", "3"]
    serving.main([*files, *network, "--rounds", "1", "--seconds", "0.05"])
    with (tmp_path / "results/serving.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["clients"], row["batch_size"]) for row in rows] == [
        *[("1", "1")] * 3,
        *[("1", "4")] * 3,
        *[("3", "1")] * 2,
    ]
    assert {row["contender"] for row in rows} == set(serving.COLORS)
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    assert (tmp_path / "results/serving.png").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("benchmarks")
def test_inference(tmp_path, capsys):
    import inference

    options = ["--variants", "bn", "--batch-sizes", "1", "2", "--image-size", "64", "--threads", "1"]
    inference.main([*options, "--rounds", "1", "--seconds", "0.01", "--to", str(tmp_path / "results")])
    with (tmp_path / "results/inference.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["batch_size"] for row in rows] == ["1"] * (len(rows) // 2) + ["2"] * (len(rows) // 2)
    contenders = {row["contender"] for row in rows}
    assert {inference.PLAIN, *inference.OURS.values()} <= contenders
    printed = capsys.readouterr().out
    for peer in ("ONNX Runtime, float32", "OpenVINO, bfloat16", "torchvision, float32"):
        assert peer in contenders or "without" in printed
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    assert (tmp_path / "results/inference.png").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("benchmarks")
def test_int8(finished_run, tmp_path, monkeypatch):
    import int8

    monkeypatch.setattr(targets, "INT8_AGREEMENT", 0)  # of a run of one epoch on two validation images
    options = ["--batch-sizes", "1", "2", "--threads", "1", "--rounds", "1", "--seconds", "0.01"]
    int8.main([str(finished_run), *options, "--to", str(tmp_path)])
    with (tmp_path / f"int8-{finished_run.name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["batch_size"] for row in rows] == ["1"] * 4 + ["2"] * 4
    assert {row["contender"] for row in rows} >= {int8.REFERENCE, "LiteRT, int8"}
    assert all(float(row["images_per_second"]) > 0 and 0 <= float(row["top_1"]) <= 1 for row in rows)


@pytest.mark.usefixtures("benchmarks")
def test_inference_refuses_other_answers():
    import inference

    answer = np.array([[0.1, 0.9]], "float32")
    inference.check("one", answer + 0.01, answer, "bfloat16")
    with pytest.raises(UserError, match=r"expected the network's answers from one, which differ by 0\.01"):
        inference.check("one", answer + 0.01, answer, "float32")
    with pytest.raises(UserError, match="differ by nan"):
        inference.check("one", answer * np.nan, answer, "bfloat16")


@pytest.mark.usefixtures("benchmarks")
def test_inference_names_ratios_that_have_no_peer():
    import inference

    rates = {inference.PLAIN: [10.0, 20.0], inference.OURS["float32"]: [20.0, 50.0]}
    plain, ours = inference.rows_of("bn", 8, rates)
    assert (ours["to_listing"], ours["to_listing_low"], ours["to_listing_high"]) == (2.25, 2.0, 2.5)
    assert (plain["peer"], ours["peer"], ours["to_peer"]) == ("", "", "")
    (_, ours, _) = inference.rows_of("bn", 8, rates | {inference.PEERS["float32"]: [40.0, 50.0]})
    assert (ours["peer"], ours["to_peer"]) == ("ONNX Runtime, float32", 0.75)
    assert "0.75 (0.50-1.00) of ONNX Runtime" in inference.table([ours])


@pytest.mark.usefixtures("benchmarks")
def test_predict_folder(tmp_path, capsys):
    import predict_folder

    sizes = ["--networks", "fashion_mnist", "--images", "40"]
    predict_folder.main([*sizes, "--rounds", "1", "--to", str(tmp_path)])
    with (tmp_path / "predict_folder.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["network"], row["contender"]) for row in rows] == [
        ("fashion_mnist", "predict"),
        ("fashion_mnist", "bare SavedModel"),
    ]
    assert "predict / bare SavedModel: " in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("benchmarks")
def test_tfds_set(photographs, tmp_path):
    import tfds_set

    sizes = ["--images", "24", "--megabytes", "0.1", "--image-size", "32", "--batch-size", "4"]
    speed = ["--processes", "1", "--rounds", "1", "--seconds", "0.1"]
    tfds_set.main(["--data", str(photographs), *sizes, *speed, "--to", str(tmp_path / "results")])
    with (tmp_path / "results/tfds_set.csv").open() as file:
        folder, of_set = csv.DictReader(file)
    assert (folder["storage"], of_set["storage"]) == (tfds_set.FOLDER, tfds_set.SET)
    for row in (folder, of_set):
        assert int(row["images"]) > 24  # copies, up to so many bytes
        assert float(row["images_per_second"]) > 0
        assert float(row["peak_mb"]) > 0
        assert float(row["limit_mb"]) == pytest.approx(float(row["set_mb"]) / 3, rel=0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("benchmarks")
def test_soak(tmp_path, capsys):
    import soak

    network = ["--variant", "small_images", "--image-size", "32"]
    soak.main([*network, "--minutes", "0.15", "--turn", "2", "--every", "1", "--to", str(tmp_path)])
    with (tmp_path / "soak.csv").open() as file:
        rows = list(csv.DictReader(file))
    served, trained = ([row for row in rows if row["process"] == of] for of in (soak.SERVED, soak.TRAINED))
    assert min(len(served), len(trained)) >= 4
    assert all(float(row["resident_mb"]) > 50 for row in rows)
    assert all(int(row["open_files"]) > 3 for row in rows)
    assert sum(int(row["count"]) for row in served) > 0
    assert int(trained[-1]["count"]) >= 1
    assert int(served[-1]["version"]) >= 2
    assert "train: resident memory, MB: " in capsys.readouterr().out
    assert (tmp_path / "soak.png").is_file()


@pytest.mark.usefixtures("benchmarks")
def test_soak_refuses_a_wrong_answer_and_reports_why_a_process_ended(tmp_path):
    import soak

    def clients(answer):
        with soak.Clients([lambda _: answer], [b"image"], np.array([[0.25, 0.75]])) as asked:
            while not asked.latencies:
                time.sleep(0.001)
        return asked.since()

    assert clients(np.array([[0.25, 0.75]]))["count"] > 0
    with pytest.raises(UserError, match="got: a wrong answer to image 0"):
        clients(np.array([[0.26, 0.74]]))
    with soak.started(tmp_path / "log", "serve", str(tmp_path / "nowhere")) as watched:
        watched[0].wait(60)
        with pytest.raises(UserError, match=r"ended early with 2; its last line: .*nowhere"):
            soak.check_alive(watched)


@pytest.mark.usefixtures("benchmarks")
def test_soak_compares_the_last_quarter_with_the_second():
    import soak

    rows = [{"open_files": value} for value in (50, 60, 10, 12, 20, 20, 14, 18)]
    assert soak.growth(rows, "open_files") == (11, 16)


@pytest.mark.usefixtures("benchmarks")
def test_each_change_of_the_ablation_changes_one_ingredient_of_the_recipe():
    import ablation

    recipe = set(recipe_options(ablation.RECIPE)["augment"])
    for change, options in ablation.CHANGES.items():
        if options.startswith("--augment"):
            changed = recipe ^ set(options.split()[1:])
            assert len(changed) == (2 if "instead" in change else 1), change
        line = ["train", *ablation.common_options(3, 0.25, "sample"), "--run", "r", *options.split()]
        _, bound, *_ = app.parse_args(line, exit_on_error=False, print_error=False)
        assert bound.arguments["config"].epochs == 3, change


@pytest.mark.slow
@pytest.mark.usefixtures("benchmarks")
def test_ablation(photographs, tmp_path, capsys):
    import ablation

    line = ["--data", str(photographs), "--runs", str(tmp_path / "runs"), "--to", str(tmp_path)]
    line += ["--epochs", "1", "--width", "0.1", "--seeds", "1", "--changes", "no flips"]
    for _ in range(2):  # the second time, nothing is left to train
        ablation.main(line)
    with (tmp_path / "ablation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["change"] for row in rows] == [ablation.UNCHANGED, "no flips"]
    config = json.loads((tmp_path / "runs/no_flips-0/config.json").read_text())
    assert config["augment"] == ["translate"]
    assert capsys.readouterr().out.count("+0.00 points") >= 2


@pytest.mark.slow
@pytest.mark.usefixtures("benchmarks")
def test_score_rows(tmp_path, capsys):
    import score_rows

    score_rows.main(["--rows", "2000", "--seconds", "0.1", "--to", str(tmp_path)])
    with (tmp_path / "score_rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["contender"] for row in rows] == [score_rows.SCORED, *score_rows.BARE]
    assert all(float(row["rows_per_second"]) > 0 for row in rows)
    assert "2,000 images, each with one row" in capsys.readouterr().out


@pytest.mark.usefixtures("benchmarks")
def test_score_rows_refuses_a_row_too_many_or_too_few(tmp_path):
    import score_rows

    score_rows.make_images(tmp_path / "images", 3)
    names = [str(path) for path in sorted((tmp_path / "images").rglob("*.png"))]
    table = tmp_path / "rows.csv"
    for rows, message in {
        (*names, names[0]): "4 rows of 3 images",
        tuple(names[1:]): "2 rows of 2 images, 1 missing or unknown",
    }.items():
        table.write_text("".join(["image,error\n", *(f"{name},\n" for name in rows)]))
        with pytest.raises(UserError, match=message):
            score_rows.check_rows([table], tmp_path / "images")
    table.write_text("".join(["image,error\n", *(f"{name},\n" for name in names)]))
    score_rows.check_rows([table], tmp_path / "images")
