import keras
import numpy as np
import pytest

from keras_googlenet import GoogLeNet, UserError, strip_aux
from keras_googlenet.surgery import with_dtype_policy
from keras_googlenet.variants import VARIANTS

SMALL = {"input_shape": (80, 80, 1), "classes": 7}


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


@pytest.mark.parametrize("variant", VARIANTS)
def test_with_dtype_policy_there_and_back(variant, random):
    model = GoogLeNet(**SMALL, variant=variant)
    half = with_dtype_policy(model, "mixed_bfloat16")
    assert half.get_layer("inception_3a_1x1").compute_dtype == "bfloat16"
    assert half.get_layer("main").compute_dtype == "float32"
    back = with_dtype_policy(half, "float32")
    assert {layer.compute_dtype for layer in back.layers if isinstance(layer, keras.Layer)} == {"float32"}
    x = random.normal(size=(2, 80, 80, 1)).astype("float32")
    expected = model.predict(x, verbose=0)[0]
    np.testing.assert_array_equal(back.predict(x, verbose=0)[0], expected)
    np.testing.assert_allclose(half.predict(x, verbose=0)[0], expected, atol=0.01)
