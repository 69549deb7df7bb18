"""Features and their projection, against NumPy's eigenvectors and the network's own layers."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_googlenet import GoogLeNet, Preprocessing, UserError
from keras_googlenet.data.parts import array_part
from keras_googlenet.evaluation import features
from keras_googlenet.evaluation.features import embed, feature_network, principal_components, project, spread
from keras_googlenet.run import folder as run_folder

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=80)


@given(LABELS, st.integers(1, 100), st.integers(0, 9))
def test_each_class_has_its_share(labels, count, seed):
    labels = np.array(labels)
    chosen = spread(labels, count, seed)
    assert len(chosen) == len(set(chosen)) == min(count, len(labels))
    assert sorted(chosen) == list(chosen)
    for label in set(labels):
        share = np.mean(labels == label) * len(chosen)
        assert abs(np.sum(labels[chosen] == label) - share) < 1


def test_the_choice_depends_on_the_seed_alone():
    labels = np.arange(100) % 3
    np.testing.assert_array_equal(spread(labels, 10, 1), spread(labels, 10, 1))
    assert list(spread(labels, 10, 1)) != list(spread(labels, 10, 2))


def test_principal_components(random):
    values = random.normal(size=(50, 8)) * np.arange(1, 9) + 3
    points, shares = principal_components(values.astype("float32"))
    variances, axes = np.linalg.eigh(np.cov(values.T))
    expected = (values - values.mean(axis=0)) @ axes[:, [-1, -2]]
    expected *= np.sign(expected[np.abs(expected).argmax(axis=0), [0, 1]])
    np.testing.assert_allclose(points, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(shares, variances[[-1, -2]] / variances.sum(), rtol=1e-5)


def test_the_length_of_features_does_not_matter(random):
    values = random.uniform(size=(20, 6)).astype("float32")
    points, _ = project(values)
    scaled, _ = project(values * random.uniform(1, 100, size=(20, 1)).astype("float32"))
    np.testing.assert_allclose(scaled, points, atol=1e-5)
    assert not np.allclose(points, 0, atol=0.1)


def test_equal_features_are_one_point():
    points, (name, _) = project(np.ones((4, 5), "float32"))
    np.testing.assert_array_equal(points, np.zeros((4, 2)))
    assert name == "first component (0% of the variance)"


def test_tsne(random):
    pytest.importorskip("sklearn")
    far_apart = random.normal(size=(30, 6)) + 50 * (np.arange(30) % 2)[:, np.newaxis]
    points, names = project(far_apart, "tsne", seed=1)
    assert names == ("t-SNE, first axis", "t-SNE, second axis")
    np.testing.assert_array_equal(points, project(far_apart, "tsne", seed=1)[0])
    centers = [points[start::2].mean(axis=0) for start in (0, 1)]
    assert np.linalg.norm(centers[0] - centers[1]) > 2 * points[::2].std()


@pytest.mark.parametrize(
    ("count", "method", "message"),
    [
        (2, "pca", "expected 3 images at least to draw features of, got 2"),
        (9, "umap", "expected `projection` to be one of pca, tsne, got 'umap'"),
        (9, "tsne", r'pip install "keras-googlenet\[inspect\]", or take `projection` pca'),
    ],
)
def test_what_cannot_be_projected(monkeypatch, count, method, message):
    monkeypatch.setattr(features, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=message):
        project(np.eye(count), method)


@pytest.fixture(scope="module")
def model():
    return GoogLeNet(input_shape=(32, 32, 1), classes=3, variant="bn", aux_heads=False)


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    """A run's folder, not trained, in its own range of pixels."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    preprocessing = Preprocessing(32, 32, 1, mean=10, scale=0.01)
    with run_folder.created(folder, {"preprocessing": preprocessing.to_dict()}, ["a", "b", "c"]):
        pass
    model.save(folder / run_folder.MODEL)
    return folder


@pytest.fixture(scope="module")
def part():
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1), dtype=np.uint8)
    return array_part(images, [0, 1, 2, 0])


def pooled(model, pixels):
    return np.asarray(keras.Model(model.input, model.get_layer("avg_pool").output)(pixels, training=False))


def test_features_of_a_run_and_of_its_file(model, run, part):
    network = feature_network(str(run))
    expected = pooled(model, (part.images.astype("float32") - 10) * 0.01)
    assert expected.shape == (4, 1024)
    np.testing.assert_allclose(embed(network, part), expected, rtol=1e-4, atol=1e-6)
    assert network.description == f"the network of {run}"

    plain = pooled(model, part.images.astype("float32") / 127.5 - 1)
    file = feature_network(str(run / run_folder.MODEL))
    np.testing.assert_allclose(embed(file, part), plain, rtol=1e-4, atol=1e-6)


def test_features_of_a_weights_file(model, part, tmp_path):
    topless = GoogLeNet(False, input_shape=(32, 32, 1), variant="bn", pooling="avg")
    topless.save_weights(tmp_path / "some.weights.h5")
    network = feature_network(str(tmp_path / "some.weights.h5"), image_size=32, channels=1)
    expected = topless(part.images.astype("float32") / 127.5 - 1, training=False)
    np.testing.assert_allclose(embed(network, part), expected, rtol=1e-4, atol=1e-6)


def test_an_untrained_network_depends_on_the_seed(monkeypatch):
    monkeypatch.setattr(features, "GoogLeNet", lambda *_, **__: small_network())
    first, again, other = (feature_network(variant="bn", seed=seed).model.get_weights() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.allclose(first[0], other[0])


def small_network():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])


def test_weights_that_are_none(tmp_path, run):
    small_network().save(tmp_path / "other.keras")
    (tmp_path / "bad.keras").write_bytes(b"rubbish")
    (tmp_path / "empty").mkdir()
    for weights, message in {
        str(tmp_path / "new"): "does not exist",
        str(tmp_path / "empty"): "cannot load .*model.keras",
        str(tmp_path / "other.keras"): "holds no GoogLeNet: expected a layer 'avg_pool'",
        str(tmp_path / "bad.keras"): "cannot load .*bad.keras, it is corrupt",
    }.items():
        with pytest.raises(UserError, match=message):
            feature_network(weights)
    with pytest.raises(UserError, match="no ImageNet weights are published for variant 'bn'"):
        feature_network("imagenet", "bn")
    with pytest.raises(UserError, match=r"one of .*'paper'.*variant='resnet'"):
        feature_network(variant="resnet")
    assert json.loads((run / "config.json").read_text())["preprocessing"]["mean"] == 10
