"""What `gpu.py` measures, what matters most first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from training_steps import CLASSES, Contender, ours, random_batch, torchvision

TORCH = ("torchvision, torch.compile", "torchvision")
BREAKDOWN = "breakdown"
PRECISIONS = ("bfloat16", "tf32", "float32")
# Seconds that one is expected to take before one of its kind was measured.
EXPECTED = {"ours": 75.0, "torchvision": 25.0, "torchvision, torch.compile": 100.0, BREAKDOWN: 120.0}


@dataclass(frozen=True)
class Case:
    """What is measured in one go."""

    name: str
    precision: str
    size: int
    batch: int

    @property
    def kind(self) -> str:
        return self.name if self.name in EXPECTED else "ours"

    def __str__(self) -> str:
        return f"{self.name}, {self.precision}, {self.size} x {self.size}, batches of {self.batch}"


def plan(variants: Sequence[str], sizes: Sequence[int], batches: Sequence[int]) -> Iterator[Case]:
    """All cases, what matters most first."""
    first, *others = variants
    all_of_size = (first, *TORCH, *others)
    large = list(zip(sizes, batches, strict=True))

    def cases(precision: str, names: Sequence[str], halves: int = 1) -> Iterator[Case]:
        for name in names:
            for size, batch in large:
                yield Case(name, precision, size, max(1, batch // halves))

    yield from cases("bfloat16", all_of_size)
    yield Case("d2l", "tf32", 96, min(128, max(batches)))
    yield Case("d2l", "bfloat16", 96, min(128, max(batches)))
    yield Case(BREAKDOWN, "bfloat16", *large[-1])
    yield from cases("tf32", all_of_size)
    yield from cases("float32", (first, "torchvision", *others))
    for precision in PRECISIONS:
        yield from cases(precision, all_of_size, halves=2)


def make(case: Case, device: str) -> Contender:
    """The contender of a case, compiled if it is ours."""
    channels, classes = (1, 10) if case.name == "d2l" else (3, CLASSES)
    images, labels = random_batch(case.size, case.batch, channels, classes)
    if case.name in TORCH:
        where = {"cpu": "cpu", "gpu": "cuda"}[device]
        return torchvision(images, labels, case.precision, device=where, compiled=case.name == TORCH[0])
    return ours(images, labels, case.name, case.precision, classes)
