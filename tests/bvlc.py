"""The BVLC network written once more, as an ONNX graph with the zoo file's names: independent truth."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# name: input channels, then Table 1's row
BLOCKS = {
    "3a": (192, 64, 96, 128, 16, 32, 32), "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64), "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64), "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128), "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}  # fmt: skip


def shapes(classes=1000):
    """Kernel shapes, output first, by layer name."""
    result = {"conv1/7x7_s2": (64, 3, 7, 7), "conv2/3x3_reduce": (64, 64, 1, 1), "conv2/3x3": (192, 64, 3, 3)}
    for name, (inputs, c1, r3, c3, r5, c5, pool) in BLOCKS.items():
        result |= {
            f"inception_{name}/1x1": (c1, inputs, 1, 1),
            f"inception_{name}/3x3_reduce": (r3, inputs, 1, 1),
            f"inception_{name}/3x3": (c3, r3, 3, 3),
            f"inception_{name}/5x5_reduce": (r5, inputs, 1, 1),
            f"inception_{name}/5x5": (c5, r5, 5, 5),
            f"inception_{name}/pool_proj": (pool, inputs, 1, 1),
        }
    for head, channels in (("loss1", 512), ("loss2", 528)):
        result |= {
            f"{head}/conv": (128, channels, 1, 1),
            f"{head}/fc": (1024, 128 * 4 * 4),
            f"{head}/classifier": (classes, 1024),
        }
    return result | {"loss3/classifier": (classes, 1024)}


def random_tensors(random, classes=1000):
    """(kernel, bias) by layer name, scaled so that activations keep their size."""
    tensors = {}
    for name, shape in shapes(classes).items():
        fan_in = np.prod(shape[1:])
        # Activations stay at the size of the pixels, where normalization matters; logits are small.
        size = 0.02 if name.endswith("classifier") else 1
        kernel = random.normal(0, size * np.sqrt(2 / fan_in), shape).astype("float32")
        tensors[name] = (kernel, random.normal(0, 0.1, shape[0]).astype("float32"))
    return tensors


def graph(tensors, *, heads):
    """The ONNX model: outputs `prob_1`, and with `heads` also `prob_loss1` and `prob_loss2`."""
    nodes, initializers = [], []

    def add(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def weights(name):
        for value, suffix in zip(tensors[name], ("w", "b"), strict=True):
            initializers.append(numpy_helper.from_array(value, f"{name}_{suffix}_0"))
        return [f"{name}_w_0", f"{name}_b_0"]

    def conv(x, name, *, stride=1):
        size = tensors[name][0].shape[-1]
        x = add("Conv", [x, *weights(name)], f"{name}_1", strides=[stride] * 2, pads=[size // 2] * 4)
        return add("Relu", [x], f"{name}_2")

    def pool(x, name):
        return add("MaxPool", [x], name, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)

    def lrn(x, name):
        return add("LRN", [x], name, size=5, alpha=1e-4, beta=0.75, bias=1.0)

    def classifier(x, name, output):
        x = add("Gemm", [add("Flatten", [x], f"{name}_flat"), *weights(name)], f"{name}_1", transB=1)
        return add("Softmax", [x], output)

    def head(x, name):
        x = add("AveragePool", [x], f"{name}/ave_pool_1", kernel_shape=[5, 5], strides=[3, 3])
        x = add("Flatten", [conv(x, f"{name}/conv")], f"{name}/flat")
        x = add("Relu", [add("Gemm", [x, *weights(f"{name}/fc")], f"{name}/fc_1", transB=1)], f"{name}/fc_2")
        classifier(x, f"{name}/classifier", f"prob_{name}")

    x = lrn(pool(conv("data_0", "conv1/7x7_s2", stride=2), "pool1"), "norm1")
    x = pool(lrn(conv(conv(x, "conv2/3x3_reduce"), "conv2/3x3"), "norm2"), "pool2")
    for name in BLOCKS:
        block = f"inception_{name}"
        if name in ("4a", "5a"):
            x = pool(x, f"pool_before_{name}")
        pooled = add("MaxPool", [x], f"{block}/pool", kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
        branches = [
            conv(x, f"{block}/1x1"),
            conv(conv(x, f"{block}/3x3_reduce"), f"{block}/3x3"),
            conv(conv(x, f"{block}/5x5_reduce"), f"{block}/5x5"),
            conv(pooled, f"{block}/pool_proj"),
        ]
        x = add("Concat", branches, f"{block}/output", axis=1)
        if heads and name in ("4a", "4d"):
            head(x, {"4a": "loss1", "4d": "loss2"}[name])
    x = add("AveragePool", [x], "pool5", kernel_shape=[7, 7], strides=[1, 1])
    classifier(x, "loss3/classifier", "prob_1")
    outputs = ["prob_1", "prob_loss1", "prob_loss2"] if heads else ["prob_1"]
    # The zoo's file holds the target shape of a Reshape as well, an integer initializer.
    initializers.append(numpy_helper.from_array(np.array([1, 1024]), "OC2_DUMMY_1"))
    value = helper.make_tensor_value_info
    return helper.make_model(
        helper.make_graph(
            nodes,
            "googlenet",
            [value("data_0", TensorProto.FLOAT, [None, 3, 224, 224])],
            [value(name, TensorProto.FLOAT, None) for name in outputs],
            initializers,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )


def save(model, path):
    onnx.save(model, str(path))
    return path


# --- the .caffemodel format, encoded by hand ------------------------------------------------------


def _varint(number):
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _field(number, content):
    """A field of bytes, or of an integer."""
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def caffemodel(tensors, *, old_format):
    """A `.caffemodel` of the tensors, with a layer without blobs in front as real files have."""
    layers_field, name_field, blobs_field = (2, 4, 6) if old_format else (100, 1, 7)
    content = _field(layers_field, _field(name_field, b"data"))
    for name, values in tensors.items():
        layer = _field(name_field, name.encode())
        for value in values:
            if old_format:
                shape = (1,) * (4 - value.ndim) + value.shape
                blob = b"".join(_field(i + 1, size) for i, size in enumerate(shape))
            else:
                dims = b"".join(_field(1, size) for size in value.shape)
                blob = _field(7, dims)
            layer += _field(blobs_field, blob + _field(5, value.astype("<f4").tobytes()))
        content += _field(layers_field, layer)
    return content
