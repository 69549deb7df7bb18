"""From a trained network to a model for other runtimes: a version for TensorFlow Serving, ONNX, LiteRT."""
