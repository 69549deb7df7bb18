"""The counts, against the paper's arithmetic, the published figures, and layers counted by hand."""

import csv
import itertools
from dataclasses import replace

import keras
import pytest
from keras import layers

from keras_googlenet import GoogLeNet, UserError
from keras_googlenet.network.architecture import TABLE_1
from keras_googlenet.network.classics import VGG11, AlexNet, NiN
from keras_googlenet.network.variants import VARIANTS
from keras_googlenet.profile.costs import compare, depth, depths, profile
from keras_googlenet.profile.plots import costs_figure, plot_costs, text_box
from keras_googlenet.profile.printed import PRINTED, differences, value
from keras_googlenet.profile.report import (
    answers,
    answers_text,
    comparison_text,
    table_1_text,
    write_csv,
)
from keras_googlenet.profile.table import table_1

# Counted parameters of the paper's blocks, in thousands, beside its own: reference of this project
THOUSANDS = {
    "3a": 164,
    "3b": 389,
    "4a": 376,
    "4b": 449,
    "4c": 510,
    "4d": 605,
    "4e": 868,
    "5a": 1043,
    "5b": 1444,
}
MILLIONS = {"3a": 128, "3b": 304, "4a": 74, "4b": 88, "4c": 100, "4d": 119, "4e": 170, "5a": 51, "5b": 71}
SIDES = {"3": 28, "4": 14, "5": 7}  # pixels, by the number of the block
SMALLEST = {
    "paper": (31, 79), "bn": (31, 79), "torchvision": (15, 15), "slim": (1, None), "d2l": (1, None),
    "listing": (1, 65), "slides": (5, 13), "naive": (31, 79), "v2": (31, 79), "residual": (31, 79),
    "small_images": (4, 10), "light_stem": (8, 20), "short": (9, None),
}  # fmt: skip


@pytest.fixture(scope="module")
def paper():
    return GoogLeNet()


@pytest.fixture(scope="module")
def paper_table():
    return table_1()


@pytest.fixture(scope="module")
def networks():
    return compare()


def narrow(variant):
    """The variant with an eighth of its channels: the same layers, quickly."""
    return VARIANTS[variant].scaled(1 / 8)


def model_of(*stack, shape):
    return keras.Sequential([keras.Input(shape), *stack])


@pytest.mark.parametrize(
    ("layer", "shape", "parameters", "macs", "activations"),
    [
        (layers.Conv2D(5, 3), (8, 8, 4), 4 * 9 * 5 + 5, 6 * 6 * 5 * 9 * 4, 6 * 6 * 5),
        (layers.Conv2D(5, 3, use_bias=False), (8, 8, 4), 4 * 9 * 5, 6 * 6 * 5 * 9 * 4, 6 * 6 * 5),
        (layers.Conv2D(6, (1, 3), 2, "same"), (9, 8, 4), 4 * 3 * 6 + 6, 5 * 4 * 6 * 3 * 4, 5 * 4 * 6),
        (layers.Conv2D(6, 3, groups=2), (8, 8, 4), 2 * 9 * 6 + 6, 6 * 6 * 6 * 9 * 2, 6 * 6 * 6),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 4), 9 * 8 + 8, 6 * 6 * 8 * 9, 6 * 6 * 8),
        (layers.Conv1D(5, 3), (8, 4), 4 * 3 * 5 + 5, 6 * 5 * 3 * 4, 6 * 5),
        (layers.Dense(5), (7,), 7 * 5 + 5, 7 * 5, 5),
        (layers.Dense(5), (3, 7), 7 * 5 + 5, 3 * 7 * 5, 3 * 5),
        (layers.BatchNormalization(), (8, 8, 4), 4 * 4, 0, 0),
        (layers.MaxPooling2D(), (8, 8, 4), 0, 0, 0),
    ],
)
def test_a_layer(layer, shape, parameters, macs, activations):
    (cost,) = profile(model_of(layer, shape=shape))
    assert (cost.layer, cost.kind) == (layer.name, type(layer).__name__)
    assert (cost.parameters, cost.macs, cost.activations) == (parameters, macs, activations)
    assert cost.output_shape == layer.output.shape[1:]


def test_a_shared_layer_has_its_parameters_once_and_its_work_twice():
    shared = layers.Conv2D(3, 1, name="shared")
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, shared(shared(inputs)))
    (cost,) = profile(model)
    assert (cost.parameters, cost.macs, cost.activations) == (12, 2 * 16 * 9, 2 * 16 * 3)
    assert depth(model) == 2


def test_a_model_within_a_model():
    inner = model_of(layers.Conv2D(3, 1, name="conv"), layers.MaxPooling2D(), shape=(4, 4, 3))
    inner.name = "inner"
    model = model_of(inner, layers.Flatten(), layers.Dense(2, name="main"), shape=(4, 4, 3))
    costs = {cost.layer: cost for cost in profile(model)}
    assert costs["inner/conv"].macs == 16 * 9
    assert costs["main"].macs == 2 * 2 * 3 * 2
    assert sum(cost.parameters for cost in costs.values()) == model.count_params()
    assert (depth(model), depth(model, pools=True)) == (2, 3)


def test_depth_is_that_of_the_longest_path():
    inputs = keras.Input((8, 8, 3))
    short = layers.Conv2D(4, 1, name="short")(inputs)
    x = layers.Conv2D(4, 1)(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(4, 1, name="long")(layers.MaxPooling2D(1)(x))
    model = keras.Model(inputs, layers.Add(name="add")([short, x]))
    assert depths(model) | {"short": 1, "long": 2, "add": 2} == depths(model)
    assert depths(model, pools=True)["add"] == 3


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_add_up(variant):
    model = GoogLeNet(input_shape=(96, 96, 3), classes=7, variant=narrow(variant))
    assert sum(cost.parameters for cost in profile(model)) == model.count_params()
    assert len({cost.layer for cost in profile(model)}) == len(model.layers) - 1  # all but the input


@pytest.mark.parametrize(
    "model", [lambda: NiN(10, variant="d2l"), lambda: AlexNet(7, (63, 63, 3)), lambda: VGG11(7, (32, 32, 3))]
)
def test_parameters_of_the_classics_add_up(model):
    model = model()
    assert sum(cost.parameters for cost in profile(model)) == model.count_params()


@pytest.mark.parametrize("variant", VARIANTS)
def test_table_adds_up(variant):
    rows = table_1(narrow(variant), classes=7, size=96)
    model = GoogLeNet(input_shape=(96, 96, 3), classes=7, variant=narrow(variant), aux_heads=False)
    assert sum(row.parameters for row in rows) == model.count_params()
    costs = profile(model)
    assert sum(row.macs for row in rows) == sum(cost.macs for cost in costs)
    assert sum(row.activations for row in rows) == sum(cost.activations for cost in costs)
    assert sum(row.depth for row in rows) == depth(model)
    assert sum(row.depth_with_pools for row in rows) == depth(model, pools=True)


def test_paper_s_totals(paper, paper_table):
    assert sum(row.parameters for row in paper_table) == 6_998_552
    assert sum(row.macs for row in paper_table) == 1_582_671_872  # the paper: "1.5 billion"
    assert sum(cost.parameters for cost in profile(paper)) == 13_378_280


def test_depth(paper):
    assert (depth(paper), depth(paper, pools=True)) == (22, 27)  # paper, section 5


def test_paper_s_blocks(paper_table):
    """Parameters and operations by the formula of each block's four branches."""
    rows = {row.name: row for row in paper_table}
    inputs = 192
    for spec in TABLE_1:
        row, side = rows[f"inception_{spec.name}"], SIDES[spec.name[0]]
        weights = (
            inputs * (spec.conv_1x1 + spec.reduce_3x3 + spec.reduce_5x5 + spec.pool_proj)
            + 9 * spec.reduce_3x3 * spec.conv_3x3
            + 25 * spec.reduce_5x5 * spec.conv_5x5
        )
        assert row.parameters == weights + sum(spec.channels)
        assert row.macs == weights * side * side
        assert (round(row.parameters / 1e3), round(row.macs / 1e6)) == (
            THOUSANDS[spec.name],
            MILLIONS[spec.name],
        )
        assert row.output_shape == (side, side, spec.filters)
        assert (row.depth, row.depth_with_pools, row.type) == (2, 2, f"inception {spec.name}")
        inputs = spec.filters


def test_activations_of_the_paper_s(networks):
    blocks = sum(SIDES[spec.name[0]] ** 2 * sum(spec.channels) for spec in TABLE_1)
    stem = 112**2 * 64 + 56**2 * (64 + 192)
    assert next(row for row in networks if row.network == "paper").activations == stem + blocks + 1000


def test_rows_other_than_blocks(paper_table):
    rows = [row for row in paper_table if not row.type.startswith("inception")]
    assert [(row.type, row.patch, row.output_shape, row.depth, row.parameters, row.macs) for row in rows] == [
        ("convolution", "7x7/2", (112, 112, 64), 1, 9_472, 118_013_952),
        ("max pool", "3x3/2", (56, 56, 64), 0, 0, 0),
        ("convolution", "3x3/1", (56, 56, 192), 2, 114_944, 359_661_568),
        ("max pool", "3x3/2", (28, 28, 192), 0, 0, 0),
        ("max pool", "3x3/2", (14, 14, 480), 0, 0, 0),
        ("max pool", "3x3/2", (7, 7, 832), 0, 0, 0),
        ("avg pool", "7x7/1", (1, 1, 1024), 0, 0, 0),
        ("dropout (40%)", "", (1, 1, 1024), 0, 0, 0),
        ("linear", "", (1, 1, 1000), 1, 1_025_000, 1_024_000),
    ]


def test_printed_columns_and_where_they_are_wrong(paper_table):
    notes = {row.name: row.note for row in paper_table}
    printed = {row.name: (row.printed_parameters, row.printed_macs) for row in paper_table}
    assert {name: columns for name, columns in printed.items() if any(columns)} == PRINTED
    assert notes["conv1_7x7_s2"] == "params 3.51 x printed, ops 3.47 x printed"
    assert {name for name, note in notes.items() if "ops" in note} == {"conv1_7x7_s2", "inception_5a"}
    in_1024 = {name for name, note in notes.items() if note == "params agree if K is 1024"}
    assert in_1024 == {"conv2_3x3", "inception_3a", "inception_3b", "main"}
    assert notes["inception_4c"] == "params 1.10 x printed"


def test_printed_figures():
    assert (value("2.7K"), value("1072K"), value("34M")) == (2700, 1_072_000, 34_000_000)
    assert differences("conv1_7x7_s2", 2_688, 33_718_272) == ""


@pytest.mark.parametrize("arguments", [{"classes": 10}, {"size": 96}, {"variant": "slides"}])
def test_printed_columns_are_for_1000_classes_at_224_pixels(arguments):
    assert not any(row.printed_parameters or row.note for row in table_1(**arguments))


def test_comparison(networks):
    rows = {row.network: row for row in networks}
    assert list(rows) == ["AlexNet", "VGG-11", "NiN", *VARIANTS]
    assert [rows[name].parameters for name in ("AlexNet", "VGG-11", "NiN")] == [
        62_378_344, 132_863_336, 7_439_608,
    ]  # fmt: skip
    # torchvision's vgg11: 7.609 G; AlexNet by hand, layer by layer
    assert rows["VGG-11"].macs == 7_609_090_048
    assert rows["AlexNet"].macs == (
        55**2 * 96 * 363 + 27**2 * 256 * 2400 + 13**2 * (384 * 2304 + 384 * 3456 + 256 * 3456)
        + 9216 * 4096 + 4096 * 4096 + 4096 * 1000
    )  # fmt: skip
    assert {
        name: (rows[name].smallest_input, rows[name].smallest_input_with_heads) for name in VARIANTS
    } == SMALLEST
    assert {name: row.input_size for name, row in rows.items() if row.input_size != 224} == {
        "slides": 32, "small_images": 32, "light_stem": 32, "short": 32,
    }  # fmt: skip
    assert {name: row.depth for name, row in rows.items()} == {
        "AlexNet": 8, "VGG-11": 11, "NiN": 12, "naive": 13, "v2": 31, "slides": 21, "small_images": 20,
        "light_stem": 21, "short": 11,
    } | dict.fromkeys(("paper", "bn", "torchvision", "slim", "d2l", "listing", "residual"), 22)  # fmt: skip
    assert rows["AlexNet"].dense_share == pytest.approx(
        (9217 * 4096 + 4097 * 4096 + 4097 * 1000) / 62_378_344
    )
    assert rows["NiN"].dense_share == 0
    assert rows["paper"].dense_share == pytest.approx(1_025_000 / 6_998_552)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_smallest_inputs_build(name):
    alone, with_heads = SMALLEST[name]
    for side, aux_heads in ((alone, False), (with_heads, True)):
        if side is not None:
            arguments = {"variant": narrow(name), "classes": 7, "aux_heads": aux_heads}
            GoogLeNet(input_shape=(side, side, 3), **arguments)
            if side > 1:
                with pytest.raises(ValueError, match=f"at least {side} x {side}"):
                    GoogLeNet(input_shape=(side - 1, side - 1, 3), **arguments)


def test_answers(networks):
    texts = list(answers(networks).values())
    for text, figures in zip(
        texts,
        [
            ("94% of AlexNet's 62.4M", "93% of VGG-11's 133M", "0% of NiN's 7.44M",
             "15% of GoogLeNet's 7.00M", "3.75M, 9.22M, 7.44M and 5.97M"),
            ("8.9 times", "62,378,344", "6,998,552", "10.4 times", "6.80M", "9.2", "5.20M", "19.0 times"),
            ("7x7/2", "28 before", "118M", "478M, 30%", "1.58G", "3x3/1", "260M", "70.9G: 45 times"),
            ("120,422,400", "2,408,448 + 10,035,200 = 12,443,648", "9.7", "97.5M", "12.6G"),
            ("31 pixels", "79 with", "d2l, 1 will"),
        ],
        strict=True,
    ):  # fmt: skip
        for figure in figures:
            assert figure in text
    lines = answers_text(answers(networks)).splitlines()
    assert max(map(len, lines)) <= 100


def test_answers_follow_the_counts(networks):
    changed = [
        replace(row, parameters=2 * row.parameters) if row.network == "AlexNet" else row for row in networks
    ]
    text = list(answers(changed).values())[1]
    assert text.startswith("17.8 times: 124,756,688")


def test_table_text(paper_table):
    lines = table_1_text(paper_table).splitlines()
    assert lines[0].split()[:6] == ["type", "patch/stride", "output", "depth", "parameters", "multiply-adds"]
    assert lines[2].split()[:8] == [
        "convolution",
        "7x7/2",
        "112x112x64",
        "1",
        "9,472",
        "118,013,952",
        "2.7K",
        "34M",
    ]
    assert lines[2].endswith("  params 3.51 x printed, ops 3.47 x printed")
    assert lines[-3].split() == ["total", "22", "6,998,552", "1,582,671,872"]
    assert lines[-1] == "22 layers with parameters on the longest path, 27 with the pools."


def test_numbers_are_aligned_to_the_right(paper_table):
    header, _, *lines = table_1_text(paper_table).split("\n\n")[0].splitlines()
    end = header.index("parameters") + len("parameters")
    assert [line[:end].split()[-1] for line in lines if line[end - 1 : end].isdigit()] == [
        f"{row.parameters:,}" for row in paper_table if row.parameters
    ] + ["6,998,552"]


def test_empty_columns_are_left_out():
    assert "paper" not in table_1_text(table_1(narrow("bn"), size=96))


def test_comparison_text(networks):
    lines = comparison_text(networks).splitlines()
    assert lines[2].split() == ["AlexNet", "224", "8", "62,378,344", "1,135,256,096", "659,272", "94.0%"]
    assert lines[5].split()[-3:] == ["14.6%", "31", "79"]


def test_csv(paper_table, networks, tmp_path):
    for rows, name in ((paper_table, "table.csv"), (networks, "networks.csv")):
        write_csv(rows, tmp_path / name)
        with (tmp_path / name).open(newline="") as file:
            read = list(csv.DictReader(file))
        assert [int(line["macs"]) for line in read] == [row.macs for row in rows]
        with pytest.raises(FileExistsError):
            write_csv(rows, tmp_path / name)
    assert read[0]["dense_share"] == "0.9399"
    assert (tmp_path / "table.csv").read_text().splitlines()[1] == (
        "conv1_7x7_s2,convolution,7x7/2,112x112x64,1,1,9472,118013952,802816,2.7K,34M,"
        '"params 3.51 x printed, ops 3.47 x printed"'
    )


def test_labels_of_the_picture_do_not_overlap(networks, tmp_path):
    figure = costs_figure(networks)
    (axes,) = figure.axes
    boxes = [text_box(label) for label in axes.texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(axes.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))
    markers = [point for line in axes.lines for point in axes.transData.transform(line.get_xydata())]
    assert len(markers) == len(networks)
    assert not any(box.contains(*point) for box in boxes for point in markers)
    assert not any(box.overlaps(axes.get_legend().get_window_extent()) for box in boxes)
    named = ", ".join(label.get_text().replace(" (32 pixels)", "") for label in axes.texts).split(", ")
    assert sorted(named) == sorted(row.network for row in networks)
    plot_costs(networks, tmp_path / "costs.png")
    assert (tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: GoogLeNet(input_shape=(None, None, 3), aux_heads=False), "input of known size"),
        (lambda: Subclassed(), "functional or sequential model, got Subclassed"),
        (lambda: keras.Sequential([layers.Dense(3)]), "functional or sequential model, got Sequential"),
        (lambda: model_of(layers.SimpleRNN(3, name="rnn"), shape=(4, 2)), "'rnn', a SimpleRNN"),
    ],
)
def test_models_that_cannot_be_counted(model, message):
    with pytest.raises(UserError, match=message):
        profile(model())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "resnet"}, "one of .*'paper'.*variant='resnet'"),
        ({"size": 30}, "at least 31 x 31"),
        ({"size": -1}, "-1"),
        ({"classes": 0}, "classes=0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        table_1(**arguments)


def test_wrong_number_of_classes():
    with pytest.raises(UserError, match="classes=0"):
        compare(0)
