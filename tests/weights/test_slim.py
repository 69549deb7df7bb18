"""TF-Slim's weights: a checkpoint written by TensorFlow with its names, and its network once more."""

import tarfile

import numpy as np
import pytest
import tensorflow as tf

from keras_googlenet import GoogLeNet, UserError
from keras_googlenet.weights.convert import convert
from keras_googlenet.weights.readers import read

BLOCKS = {  # Table 1's rows, by TF-Slim's names
    "3b": (64, 96, 128, 16, 32, 32), "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64), "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64), "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128), "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}  # fmt: skip


class Slim:
    """TF-Slim's inception_v1 in plain TensorFlow, making random variables as it goes."""

    def __init__(self, random):
        self.random = random
        self.variables = {}

    def value(self, name, shape, mean=0.0, scale=1.0):
        full = f"InceptionV1/{name}"
        if full not in self.variables:
            self.variables[full] = self.random.normal(mean, scale, shape).astype("float32")
        return self.variables[full]

    def conv(self, x, scope, filters, size, stride=1):
        fan_in = size * size * x.shape[-1]
        kernel = self.value(f"{scope}/weights", (size, size, x.shape[-1], filters), 0, np.sqrt(2 / fan_in))
        x = tf.nn.conv2d(x, kernel, stride, "SAME")
        mean = self.value(f"{scope}/BatchNorm/moving_mean", (filters,), 0, 0.3)
        variance = abs(self.value(f"{scope}/BatchNorm/moving_variance", (filters,), 1.5, 0.1))
        beta = self.value(f"{scope}/BatchNorm/beta", (filters,), 0, 0.3)
        return tf.nn.relu(tf.nn.batch_normalization(x, mean, variance, beta, None, 0.001))

    def block(self, x, name, row):
        scope = f"Mixed_{name}"
        third = "Conv2d_0a_3x3" if name == "5b" else "Conv2d_0b_3x3"
        b0 = self.conv(x, f"{scope}/Branch_0/Conv2d_0a_1x1", row[0], 1)
        b1 = self.conv(x, f"{scope}/Branch_1/Conv2d_0a_1x1", row[1], 1)
        b1 = self.conv(b1, f"{scope}/Branch_1/Conv2d_0b_3x3", row[2], 3)
        b2 = self.conv(x, f"{scope}/Branch_2/Conv2d_0a_1x1", row[3], 1)
        b2 = self.conv(b2, f"{scope}/Branch_2/{third}", row[4], 3)
        b3 = tf.nn.max_pool2d(x, 3, 1, "SAME")
        b3 = self.conv(b3, f"{scope}/Branch_3/Conv2d_0b_1x1", row[5], 1)
        return tf.concat([b0, b1, b2, b3], axis=-1)

    def __call__(self, x):
        x = self.conv(x, "Conv2d_1a_7x7", 64, 7, stride=2)
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        x = self.conv(x, "Conv2d_2b_1x1", 64, 1)
        x = self.conv(x, "Conv2d_2c_3x3", 192, 3)
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        for name, row in BLOCKS.items():
            if name in ("4b", "5b"):
                x = tf.nn.max_pool2d(x, 3 if name == "4b" else 2, 2, "SAME")
            x = self.block(x, name, row)
        x = tf.reduce_mean(x, axis=(1, 2), keepdims=True)
        kernel = self.value("Logits/Conv2d_0c_1x1/weights", (1, 1, 1024, 1001), 0, 0.1)
        biases = self.value("Logits/Conv2d_0c_1x1/biases", (1001,), 0, 0.1)
        return (tf.nn.conv2d(x, kernel, 1, "SAME") + biases)[:, 0, 0]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(archive, images, logits): a checkpoint with TF-Slim's names and what its network answers."""
    random = np.random.default_rng(3)
    network = Slim(random)
    images = random.uniform(-1, 1, (2, 224, 224, 3)).astype("float32")
    logits = network(images).numpy()
    variances = {n: abs(v) for n, v in network.variables.items() if n.endswith("moving_variance")}
    folder = tmp_path_factory.mktemp("slim")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in (network.variables | variances).items():
            tf.compat.v1.get_variable(name, initializer=value)
        tf.compat.v1.get_variable("global_step", initializer=np.int64(7))
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(folder / "inception_v1.ckpt"), write_meta_graph=False)
    archive = folder / "inception_v1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path in folder.glob("inception_v1.ckpt*"):
            tar.add(path, path.name)
    return archive, images, logits


def test_converted_network_answers_as_slim_s(written):
    archive, images, logits = written
    model = GoogLeNet(variant="slim", classes=1001, classifier_activation=None)
    convert(read(archive, "slim"), "slim", model)
    np.testing.assert_allclose(model.predict(images, verbose=0), logits, rtol=1e-4, atol=1e-4)


def test_checkpoint_by_prefix_and_by_index(written):
    archive, _, _ = written
    names = set(read(archive, "slim"))
    assert set(read(archive.with_name("inception_v1.ckpt"), "slim")) == names
    assert set(read(archive.with_name("inception_v1.ckpt.index"), "slim")) == names


def test_an_archive_without_checkpoint_is_refused(tmp_path):
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as tar:
        tar.add(__file__, "test.py")
    with pytest.raises(UserError, match="expected one checkpoint in it, found 0"):
        read(tmp_path / "other.tar.gz", "slim")
