import keras
import numpy as np
import pytest

from keras_googlenet import GoogLeNet, UserError, strip_aux
from keras_googlenet.network.surgery import feature_model, freeze, replace_heads, with_dtype_policy
from keras_googlenet.network.variants import VARIANTS

SMALL = {"input_shape": (80, 80, 1), "classes": 7}


def narrow(**arguments):
    """A network with an eighth of the channels: the same layers, quickly."""
    return GoogLeNet(**(SMALL | {"variant": VARIANTS["paper"].scaled(1 / 8)} | arguments))


def test_strip_aux_shares_the_main_path(random):
    model = GoogLeNet(**SMALL)
    main = strip_aux(model)
    assert main.output_shape == (None, 7)
    assert main.count_params() == GoogLeNet(**SMALL, aux_heads=False).count_params()
    assert {id(v) for v in main.variables} < {id(v) for v in model.variables}
    x = random.normal(size=(2, 80, 80, 1)).astype("float32")
    np.testing.assert_array_equal(main.predict(x, verbose=0), model.predict(x, verbose=0)[0])


def test_strip_aux_without_a_top_is_refused():
    with pytest.raises(UserError, match='layer "main"'):
        strip_aux(GoogLeNet(include_top=False))


@pytest.mark.parametrize("variant", ["paper", pytest.param("bn", marks=pytest.mark.ci)])
def test_with_dtype_policy_there_and_back(variant, random):
    model = narrow(variant=VARIANTS[variant].scaled(1 / 8))
    half = with_dtype_policy(model, "mixed_bfloat16")
    assert half.get_layer("inception_3a_1x1").compute_dtype == "bfloat16"
    assert half.get_layer("main").compute_dtype == "float32"
    back = with_dtype_policy(half, "float32")
    assert {layer.compute_dtype for layer in back.layers if isinstance(layer, keras.Layer)} == {"float32"}
    x = random.normal(size=(2, 80, 80, 1)).astype("float32")
    expected = model.predict(x, verbose=0)[0]
    np.testing.assert_array_equal(back.predict(x, verbose=0)[0], expected)
    np.testing.assert_allclose(half.predict(x, verbose=0)[0], expected, atol=0.01)


@pytest.mark.parametrize("aux_heads", [True, False])
def test_replace_heads_keeps_all_but_the_classifiers(aux_heads):
    model = narrow(aux_heads=aux_heads)
    changed = replace_heads(model, 3)
    assert changed.output_names == model.output_names
    assert (
        [shape[-1] for shape in changed.output_shape] == [3] * 3
        if aux_heads
        else changed.output_shape[-1] == 3
    )
    old, new = ({id(v) for v in m.trainable_variables} for m in (model, changed))
    assert len(old & new) == len(old) - 2 * len(model.outputs)  # a kernel and a bias each
    assert changed.get_layer("main").activation is keras.activations.softmax


@pytest.mark.parametrize("classes", [0, -1])
def test_replace_heads_wants_classes(classes):
    with pytest.raises(UserError, match="positive number of classes"):
        replace_heads(narrow(), classes)


def test_feature_model_gives_the_blocks_in_the_order_asked_for():
    model = GoogLeNet(include_top=False, input_shape=(224, 224, 3))
    features = feature_model(model, ["3b", "5b", "4e"])
    assert features.output_shape == [(None, 28, 28, 480), (None, 7, 7, 1024), (None, 14, 14, 832)]
    with pytest.raises(UserError, match=r"expected a block of .*'3a'.* received '6a'"):
        feature_model(model, ["6a"])
    with pytest.raises(UserError, match="at least one block"):
        feature_model(model, [])


@pytest.mark.ci
def test_freeze_stops_training_up_to_a_block(random):
    model = narrow(variant=VARIANTS["bn"].scaled(1 / 8))
    freeze(model, "4a")
    trainable = {
        layer.name for layer in model.layers if isinstance(layer, keras.Layer) and layer.trainable_variables
    }
    frozen = {"conv1_7x7_s2", "conv2_3x3_bn", "inception_3a_1x1", "inception_4a_pool_proj_bn"}
    assert not trainable & frozen
    assert {"inception_4b_1x1", "inception_5b_5x5_bn", "aux1_conv", "aux1", "main"} <= trainable
    loss = "sparse_categorical_crossentropy"
    model.compile("sgd", loss=[loss] * 3)
    before = {v.path: np.array(v) for v in model.variables}
    model.train_on_batch(random.normal(size=(4, 80, 80, 1)).astype("float32"), [np.arange(4)] * 3)
    changed = {v.path.split("/")[0] for v in model.variables if (np.array(v) != before[v.path]).any()}
    assert not changed & frozen
    assert {"inception_4b_1x1", "inception_4b_1x1_bn", "main"} <= changed


def test_freeze_names_the_blocks():
    with pytest.raises(UserError, match="expected a block of"):
        freeze(narrow(), "4z")


def test_new_heads_of_a_frozen_network_are_trained():
    model = narrow()
    model.trainable = False
    changed = replace_heads(model, 3)
    assert {variable.path.split("/")[0] for variable in changed.trainable_variables} == set(
        model.output_names
    )


def test_a_classifier_of_another_kind_is_named():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Activation("softmax", name="main")(inputs))
    with pytest.raises(UserError, match="expected a classifier main that is a Dense layer, got Activation"):
        replace_heads(model, 3)
