"""GoogLeNet (Inception v1) for Keras 3: from images to a served model.

The names below load their modules when first used, so importing the package imports no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from keras_googlenet.data.parts import ImageData
    from keras_googlenet.errors import Interrupted, UserError
    from keras_googlenet.evaluation.evaluate import evaluate
    from keras_googlenet.export.saved_model import export_saved_model
    from keras_googlenet.images.spec import Preprocessing
    from keras_googlenet.inference.classifier import Classifier, load
    from keras_googlenet.network.architecture import Architecture
    from keras_googlenet.network.googlenet import GoogLeNet
    from keras_googlenet.network.surgery import feature_model, freeze, replace_heads, strip_aux
    from keras_googlenet.run.config import RunConfig
    from keras_googlenet.training.train import train
    from keras_googlenet.tuning.config import TuneConfig
    from keras_googlenet.tuning.hypermodel import HyperGoogLeNet
    from keras_googlenet.tuning.search import tune
    from keras_googlenet.weights.imagenet import decode_predictions, preprocess_input
    from keras_googlenet.weights.shipped import shipped_names

# Where each public name is.
_MODULES = {
    "Architecture": "network.architecture",
    "Classifier": "inference.classifier",
    "GoogLeNet": "network.googlenet",
    "HyperGoogLeNet": "tuning.hypermodel",
    "ImageData": "data.parts",
    "Interrupted": "errors",
    "Preprocessing": "images.spec",
    "RunConfig": "run.config",
    "TuneConfig": "tuning.config",
    "UserError": "errors",
    "decode_predictions": "weights.imagenet",
    "evaluate": "evaluation.evaluate",
    "export_saved_model": "export.saved_model",
    "feature_model": "network.surgery",
    "freeze": "network.surgery",
    "load": "inference.classifier",
    "preprocess_input": "weights.imagenet",
    "replace_heads": "network.surgery",
    "shipped_names": "weights.shipped",
    "strip_aux": "network.surgery",
    "train": "training.train",
    "tune": "tuning.search",
}
__all__ = [
    "Architecture",
    "Classifier",
    "GoogLeNet",
    "HyperGoogLeNet",
    "ImageData",
    "Interrupted",
    "Preprocessing",
    "RunConfig",
    "TuneConfig",
    "UserError",
    "decode_predictions",
    "evaluate",
    "export_saved_model",
    "feature_model",
    "freeze",
    "load",
    "preprocess_input",
    "replace_heads",
    "shipped_names",
    "strip_aux",
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
