"""Classify files as `predict` does, but that the first failure is raised."""

from keras_googlenet.serving import Client
from keras_googlenet.serving.client.answers import BATCH, predictions
from keras_googlenet.serving.client.images import find_files
from keras_googlenet.serving.client.local import local_model


def classify(images, *, model=None, url=None):
    paths = find_files(images)
    if model is not None:
        return predictions(local_model(model), paths, BATCH, source=str(model))
    with Client(url) as client:
        return client.predict(paths)
