"""From a trained network to answers: SavedModel export, the preview of TensorFlow Serving, clients."""
