"""Costs from rows against those of built networks, and budgets that every sample obeys."""

import random

import pytest

from keras_googlenet import GoogLeNet, UserError
from keras_googlenet.network.cost import Cost, InputSize
from keras_googlenet.network.surgery import strip_aux
from keras_googlenet.network.variants import BN, PAPER, VARIANTS
from keras_googlenet.profile.costs import profile
from keras_googlenet.tuning import budgets
from keras_googlenet.tuning.budgets import Budget
from keras_googlenet.tuning.spaces import SPACES, SearchSpace

FASHION = InputSize(96, 96, 1, 10)


def built(architecture, size):
    """The cost of the main path of the built network, heads cut off."""
    model = GoogLeNet(
        variant=architecture,
        input_shape=(size.height, size.width, size.channels),
        classes=size.classes,
        aux_heads=False,
    )
    rows = profile(model)
    return Cost(sum(row.parameters for row in rows), sum(row.macs for row in rows))


def test_the_paper_s_network():
    """Figures as computed elsewhere from the BVLC model: 1000 classes at 224 pixels."""
    paper = budgets.cost(PAPER, InputSize(224, 224, 3, 1000))
    assert paper.parameters == 6_998_552
    assert round(paper.macs / 1e9, 3) == 1.583


@pytest.mark.parametrize("variant", VARIANTS)
def test_costs_are_those_of_the_built_network(variant):
    """A sample of each variant, in sizes that are not square."""
    source = random.Random(variant)
    space = SearchSpace(source.choice(list(SPACES)), (VARIANTS[variant],))
    size = InputSize(source.randint(64, 120), source.randint(64, 120), source.choice([1, 3]), 7)
    architecture = space.architecture(space.sample(source))
    assert budgets.cost(architecture, size) == built(architecture, size)


def test_heads_do_not_count():
    model = GoogLeNet(variant=BN, input_shape=(96, 96, 1), classes=10)
    assert budgets.cost(BN, FASHION).parameters == strip_aux(model).count_params() < model.count_params()


def test_a_budget_is_at_most():
    budget = Budget(parameters=100, macs=1000)
    assert budget.admits(Cost(100, 1000))
    assert not budget.admits(Cost(101, 1000))
    assert not budget.admits(Cost(100, 1001))
    assert Budget().admits(Cost(10**12, 10**15))


@pytest.mark.parametrize("space", SPACES)
def test_a_budget_that_admits_nothing_is_refused(space):
    with pytest.raises(UserError, match=r"too few of 2000 samples .* max_params 1,000 \(they need"):
        budgets.check(SearchSpace(space, (BN,)), Budget(parameters=1000), FASHION)
    budgets.check(
        SearchSpace(space, (BN,)), Budget(parameters=budgets.cost(BN, FASHION).parameters // 2), FASHION
    )
