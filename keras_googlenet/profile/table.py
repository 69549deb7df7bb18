"""The paper's Table 1, counted, and the figures that networks are compared by. Imports no Keras."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from keras_googlenet.errors import UserError
from keras_googlenet.network.architecture import Architecture, smallest_input
from keras_googlenet.network.cost import InputSize, StageCost, stage_costs
from keras_googlenet.network.variants import architecture_of
from keras_googlenet.profile.printed import CLASSES, PRINTED, SIZE, differences


@dataclass(frozen=True)
class TableRow(StageCost):
    """A row of Table 1: counts, and the paper's printed figures."""

    printed_parameters: str = ""
    printed_macs: str = ""
    note: str = ""  # where the two differ


@dataclass(frozen=True)
class NetworkCost:
    """A network, for comparison with others: its main path, for one image."""

    network: str
    input_size: int
    depth: int
    parameters: int
    dense_parameters: int  # those in fully connected layers
    macs: int
    activations: int
    smallest_input: int | None = None  # pixels; of GoogLeNets alone
    smallest_input_with_heads: int | None = None  # with auxiliary heads, where the network has any

    @property
    def dense_share(self) -> float:
        """Share of the parameters that fully connected layers hold."""
        return self.dense_parameters / self.parameters


def table_1(
    variant: str | Architecture = "paper", classes: int = CLASSES, size: int | None = None
) -> list[TableRow]:
    """The paper's Table 1 for a network without auxiliary heads.

    The printed columns are for 1000 classes at 224 pixels alone.

    Args:
        variant: As for `GoogLeNet`.
        classes: Number of classes.
        size: Side of the input in pixels; by default the variant's own.

    Raises:
        UserError: An argument is not as above, or the input is too small for the network.
    """
    if classes < 1:
        raise UserError(f"expected `classes` to be at least 1, got classes={classes}")
    try:
        architecture = architecture_of(variant)
        side = architecture.input_size if size is None else size
        stages = stage_costs(architecture, InputSize(side, side, 3, classes))
    except ValueError as error:
        raise UserError(str(error)) from None
    rows = [TableRow(**asdict(stage)) for stage in stages]
    is_printed = side == SIZE and classes == CLASSES
    return [_beside_printed(row) if is_printed and row.name in PRINTED else row for row in rows]


def network_cost(architecture: Architecture, classes: int = CLASSES) -> NetworkCost:
    """The sums of a network's rows, at its natural input size.

    Args:
        architecture: The network.
        classes: Number of classes.
    """
    rows = table_1(architecture, classes)
    return NetworkCost(
        architecture.name,
        architecture.input_size,
        depth=sum(row.depth for row in rows),
        parameters=sum(row.parameters for row in rows),
        dense_parameters=rows[-1].parameters,
        macs=sum(row.macs for row in rows),
        activations=sum(row.activations for row in rows),
        smallest_input=smallest_input(architecture, aux_heads=False),
        smallest_input_with_heads=(
            smallest_input(architecture, aux_heads=True) if architecture.auxiliary_heads else None
        ),
    )


def _beside_printed(row: TableRow) -> TableRow:
    parameters, macs = PRINTED[row.name]
    note = differences(row.name, row.parameters, row.macs)
    return TableRow(**asdict(row) | {"printed_parameters": parameters, "printed_macs": macs, "note": note})
