"""torchvision's GoogLeNet, a peer of several benchmarks."""

from __future__ import annotations

from functools import cache
from typing import Any

OPERATORS = ("nms", "qnms")
SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def torchvision_network(**options: Any) -> Any:
    """Its network without published weights, all heads.

    Args:
        options: Of `torchvision.models.googlenet`.

    Raises:
        ImportError: torch or torchvision is not installed.
    """
    _declare_operators()
    from torchvision.models import googlenet

    return googlenet(weights=None, aux_logits=True, **options)


@cache  # a library's names end with the last reference to it
def _declare_operators() -> Any:
    """The names of torchvision's operators, where its wheel has none for this build of torch."""
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + SIGNATURE)
    return library
