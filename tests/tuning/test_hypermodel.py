"""`HyperGoogLeNet` as keras-tuner's own hypermodels are used."""

import keras
import keras_tuner as kt
import numpy as np
import pytest

from keras_googlenet import Architecture, GoogLeNet, HyperGoogLeNet
from keras_googlenet.network.variants import BN
from keras_googlenet.tuning.spaces import SPACES

SHAPE = (80, 80, 1)


def weights_of(model):
    return [(layer.name, [tuple(w.shape) for w in layer.weights]) for layer in model.layers]


@pytest.mark.parametrize("space", SPACES)
def test_the_default_hyperparameters_build_the_paper_s_network(space):
    built = HyperGoogLeNet(input_shape=(224, 224, 3), classes=1000, space=space).build(kt.HyperParameters())
    paper = GoogLeNet()
    assert weights_of(built) == weights_of(paper)
    assert built.count_params() == 13_378_280


def test_what_must_be_specified():
    """keras-tuner's own words."""
    for own in (kt.applications.HyperXception, HyperGoogLeNet):
        with pytest.raises(ValueError, match="You must specify `classes` when `include_top=True`"):
            own(input_shape=SHAPE)
        with pytest.raises(ValueError, match="You must specify either `input_shape` or `input_tensor`"):
            own(classes=10)
    with pytest.raises(ValueError, match=r"The `space` argument should be .* Received: space='depth'"):
        HyperGoogLeNet(input_shape=SHAPE, classes=2, space="depth")
    with pytest.raises(ValueError, match=r"The `variant` argument should be .* Received: variant='vgg'"):
        HyperGoogLeNet(input_shape=SHAPE, classes=2, variant="vgg")


def test_without_top_there_are_features():
    model = HyperGoogLeNet(include_top=False, input_shape=(64, 64, 3)).build(kt.HyperParameters())
    assert model.output_shape == (None, 1024)
    assert not model.compiled


def test_an_input_tensor():
    inputs = keras.Input((200, 200, 4))
    tensor = keras.layers.Conv2D(3, 1, name="mine")(inputs)
    model = HyperGoogLeNet(input_tensor=tensor, classes=2, variant="bn").build(kt.HyperParameters())
    assert model.input_shape == (None, 200, 200, 4)
    assert model.get_layer("mine")


def test_all_that_can_be_chosen():
    extras = ("dropout", "learning_rate", "decay_rate", "aux_weight")
    hypermodel = HyperGoogLeNet(
        input_shape=SHAPE, classes=3, variant=("bn", "v2"), extras=extras, steps_per_epoch=5
    )
    hp = kt.HyperParameters()
    hypermodel.declare_hyperparameters(hp)
    assert hp.values["learning_rate"] == 0.01
    hp.values |= {
        "variant": "v2",
        "dropout": 0.2,
        "learning_rate": 0.1,
        "decay_rate": 0.5,
        "aux_weight": 0.1,
        "width/5": 0.25,
    }
    model = hypermodel.build(hp)
    assert model.get_layer("main_dropout").rate == 0.2
    assert model.get_layer("inception_5b_3x3b_1").filters == 32
    rates = [float(model.optimizer._learning_rate(step)) for step in (0, 39, 40)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.05], rtol=1e-6)
    assert model.get_compile_config()["loss_weights"] == [1.0, 0.1, 0.1]
    assert Architecture.from_json(hypermodel.architecture(hp).to_json()) == hypermodel.architecture(hp)


def test_compiling_can_be_overridden():
    class WithAdam(HyperGoogLeNet):
        def _compile(self, model, hp):
            model.compile("adam", ["categorical_crossentropy"] * 3)

    model = WithAdam(input_shape=SHAPE, classes=2).build(kt.HyperParameters())
    assert isinstance(model.optimizer, keras.optimizers.Adam)


@pytest.mark.slow
@pytest.mark.parametrize("aux_heads", [True, False])
def test_keras_tuner_s_own_search_takes_it(aux_heads, random, tmp_path, monkeypatch):
    """The objective has its name with three outputs and with one."""
    hypermodel = HyperGoogLeNet(
        input_shape=(80, 80, 1), classes=2, variant=BN.scaled(0.1), aux_heads=aux_heads
    )
    tuner = kt.RandomSearch(
        hypermodel, kt.Objective("val_main_accuracy", "max"), max_trials=1, directory=tmp_path
    )
    x, y = random.uniform(size=(4, 80, 80, 1)).astype("float32"), np.eye(2)[[0, 1, 0, 1]]
    y = [y, y, y] if aux_heads else y
    tuner.search(x, y, epochs=1, validation_data=(x, y), verbose=0)
    assert tuner.oracle.get_best_trials()[0].score is not None
