"""From a trained network to what others run: a version for TensorFlow Serving, ONNX, LiteRT."""
