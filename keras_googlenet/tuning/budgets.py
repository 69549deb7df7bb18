"""Budgets: the cost that a search allows a network."""

from __future__ import annotations

import random
from dataclasses import dataclass

from keras_googlenet.errors import UserError
from keras_googlenet.network.cost import Cost, InputSize, cost
from keras_googlenet.tuning.spaces import SearchSpace

DRAWS = 2000  # samples that a budget is tried on before a search
FEWEST = 2  # of them that must obey it


@dataclass(frozen=True)
class Budget:
    """The maximum cost of a sample; `None` for no limit."""

    parameters: int | None = None
    macs: int | None = None

    def admits(self, cost: Cost) -> bool:
        """Whether a network of this cost is allowed."""
        return all(
            most is None or spent <= most
            for most, spent in ((self.parameters, cost.parameters), (self.macs, cost.macs))
        )


def check(space: SearchSpace, budget: Budget, size: InputSize, seed: int = 0) -> None:
    """Refuse a budget that hardly any sample can meet.

    Raises:
        UserError: Too few samples of the space are within it.
    """
    source = random.Random(seed)
    costs = [cost(space.architecture(space.sample(source)), size) for _ in range(DRAWS)]
    if sum(map(budget.admits, costs)) >= FEWEST:
        return
    limits = []
    for name, most, spent in (
        ("max_params", budget.parameters, sorted(one.parameters for one in costs)),
        ("max_macs", budget.macs, sorted(one.macs for one in costs)),
    ):
        if most is not None:
            limits.append(
                f"{name} {most:,} (they need {spent[0]:,}, one in a hundred {spent[DRAWS // 100]:,})"
            )
    raise UserError(
        f"too few of {DRAWS} samples of the space {space.name} obey {' and '.join(limits)}: allow more, "
        "choose another space, or begin with a smaller width"
    )
