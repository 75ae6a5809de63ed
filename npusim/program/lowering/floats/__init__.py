"""What the nodes of a float graph are: arithmetic with constants, saturations, layers with weights, pools, reshapes.

The only place that knows how exporters spell a float network; :mod:`npusim.floats` puts the readings together.
"""

from npusim.program.lowering.floats.affine import Affine, read_affine, read_saturation
from npusim.program.lowering.floats.moves import flatten_node, join_node, reshape_node, slice_nodes
from npusim.program.lowering.floats.preparation import fold_float_graph
from npusim.program.lowering.floats.refusal import Refusal
from npusim.program.lowering.floats.roles import (
    Role,
    computes_in_integers,
    is_weighted,
    keeps_order,
    means_the_same_everywhere,
    reshapes,
    role_of,
    role_of_operator,
    roles_of_step,
)
from npusim.program.lowering.floats.weighted import Parameters, WeightForm, along_outputs, read_parameters, read_window
from npusim.program.lowering.floats.windows import Average, read_average, read_maximum

__all__ = [
    "Affine",
    "Average",
    "Parameters",
    "Refusal",
    "Role",
    "WeightForm",
    "along_outputs",
    "computes_in_integers",
    "flatten_node",
    "fold_float_graph",
    "is_weighted",
    "join_node",
    "keeps_order",
    "means_the_same_everywhere",
    "read_affine",
    "read_average",
    "read_maximum",
    "read_parameters",
    "read_saturation",
    "read_window",
    "reshape_node",
    "reshapes",
    "role_of",
    "role_of_operator",
    "roles_of_step",
    "slice_nodes",
]
