"""GoogLeNet (Inception v1) for Keras 3: from images to a served model.

The names below load their modules when first used, so importing the package imports no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from keras_googlenet.data.bundled import SAMPLE_CLASSES, sample_arrays
    from keras_googlenet.data.parts import ImageData
    from keras_googlenet.errors import Interrupted, UserError
    from keras_googlenet.evaluation.evaluate import evaluate
    from keras_googlenet.evaluation.inspect import inspect
    from keras_googlenet.export.from_run import export_run
    from keras_googlenet.export.saved_model import export_saved_model
    from keras_googlenet.export.targets import export_file
    from keras_googlenet.images.spec import Preprocessing
    from keras_googlenet.inference.classifier import Classifier, load
    from keras_googlenet.network.architecture import Architecture, Inception
    from keras_googlenet.network.classics import VGG11, AlexNet, NiN
    from keras_googlenet.network.googlenet import GoogLeNet
    from keras_googlenet.network.surgery import feature_model, freeze, replace_heads, strip_aux
    from keras_googlenet.network.variants import VARIANTS
    from keras_googlenet.profile.drawing import draw_architecture
    from keras_googlenet.profile.table import table_1
    from keras_googlenet.run.config import RunConfig
    from keras_googlenet.run.recipes import recipe_options
    from keras_googlenet.serving.client.client import Client
    from keras_googlenet.training.train import train
    from keras_googlenet.tuning.config import TuneConfig
    from keras_googlenet.tuning.hypermodel import HyperGoogLeNet
    from keras_googlenet.tuning.search import tune
    from keras_googlenet.weights.imagenet import decode_predictions, preprocess_input
    from keras_googlenet.weights.shipped import shipped_names

# Where each public name is.
_MODULES = {
    "SAMPLE_CLASSES": "data.bundled",
    "VARIANTS": "network.variants",
    "VGG11": "network.classics",
    "AlexNet": "network.classics",
    "Architecture": "network.architecture",
    "Classifier": "inference.classifier",
    "Client": "serving.client.client",
    "GoogLeNet": "network.googlenet",
    "HyperGoogLeNet": "tuning.hypermodel",
    "ImageData": "data.parts",
    "Inception": "network.architecture",
    "Interrupted": "errors",
    "NiN": "network.classics",
    "Preprocessing": "images.spec",
    "RunConfig": "run.config",
    "TuneConfig": "tuning.config",
    "UserError": "errors",
    "decode_predictions": "weights.imagenet",
    "draw_architecture": "profile.drawing",
    "evaluate": "evaluation.evaluate",
    "export_file": "export.targets",
    "export_run": "export.from_run",
    "export_saved_model": "export.saved_model",
    "feature_model": "network.surgery",
    "freeze": "network.surgery",
    "inspect": "evaluation.inspect",
    "load": "inference.classifier",
    "preprocess_input": "weights.imagenet",
    "recipe_options": "run.recipes",
    "replace_heads": "network.surgery",
    "sample_arrays": "data.bundled",
    "shipped_names": "weights.shipped",
    "strip_aux": "network.surgery",
    "table_1": "profile.table",
    "train": "training.train",
    "tune": "tuning.search",
}
__all__ = [
    "SAMPLE_CLASSES",
    "VARIANTS",
    "VGG11",
    "AlexNet",
    "Architecture",
    "Classifier",
    "Client",
    "GoogLeNet",
    "HyperGoogLeNet",
    "ImageData",
    "Inception",
    "Interrupted",
    "NiN",
    "Preprocessing",
    "RunConfig",
    "TuneConfig",
    "UserError",
    "decode_predictions",
    "draw_architecture",
    "evaluate",
    "export_file",
    "export_run",
    "export_saved_model",
    "feature_model",
    "freeze",
    "inspect",
    "load",
    "preprocess_input",
    "recipe_options",
    "replace_heads",
    "sample_arrays",
    "shipped_names",
    "strip_aux",
    "table_1",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from keras_googlenet.quiet import without_log

    with without_log():
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return __all__
