"""torchvision's weights, against torchvision's own network. `make test-all` installs it."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make test-all installs it")

# torchvision's wheel has compiled operators for GPU builds of torch alone; its networks need none
# of them, only their names.
_LIBRARY = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _LIBRARY.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
models = pytest.importorskip("torchvision.models", reason="torchvision is not installed: make test-all does")

from keras_googlenet import GoogLeNet, UserError  # noqa: E402
from keras_googlenet.weights.convert import convert  # noqa: E402
from keras_googlenet.weights.readers import read  # noqa: E402


@pytest.fixture(scope="module")
def network():
    """torchvision's network, its batch-norm statistics and parameters random."""
    torch.manual_seed(4)
    net = models.googlenet(weights=None, init_weights=False, aux_logits=True, num_classes=1000)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
            torch.nn.init.normal_(module.running_mean, 0, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.eval()


@pytest.fixture(scope="module")
def state(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("torch") / "googlenet.pth"
    torch.save(network.state_dict(), path)
    return path


def close(ours, theirs):
    """Within 1e-4 of the largest logit."""
    return np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("size", [224, 96])
def test_logits_of_all_heads(size, network, state):
    x = np.random.default_rng(5).normal(size=(2, size, size, 3)).astype("float32")
    seen = {}
    for name, block in (("aux1", network.inception4a), ("aux2", network.inception4d)):
        head = getattr(network, name)
        block.register_forward_hook(lambda _, __, out, n=name, h=head: seen.__setitem__(n, h(out)))
    with torch.no_grad():
        expected = [network(torch.from_numpy(x.transpose(0, 3, 1, 2)))]
    expected += [seen["aux1"], seen["aux2"]]
    model = GoogLeNet(variant="torchvision", input_shape=(size, size, 3), classifier_activation=None)
    convert(read(state, "torchvision"), "torchvision", model)
    for ours, theirs in zip(model.predict(x, verbose=0), expected, strict=True):
        assert close(ours, theirs.numpy())


def test_a_pickle_runs_no_code(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    torch.save({"fc.weight": Payload()}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match=r"cannot read .* as torchvision weights"):
        read(tmp_path / "bad.pth", "torchvision")
    assert not (tmp_path / "executed").exists()


def test_a_truncated_file_is_one_line(state, tmp_path):
    (tmp_path / "short.pth").write_bytes(state.read_bytes()[:1_000_000])
    with pytest.raises(UserError, match=r"cannot read .* as torchvision weights"):
        read(tmp_path / "short.pth", "torchvision")
