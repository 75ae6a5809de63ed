"""What the elements of a program's tensors are, in a form that does not depend on how the program is written.

Two programs whose outputs have the same form give the same values for every input. Every element is a place in a *map*: a
function of the model's inputs with one value for each of its places, such as an output channel of a convolution. Maps are
numbered by what they are (:class:`~npusim.program.forms.maps.Maps`), so that equal maps of two programs have the same number.
Names, the order of independent steps and of channels, channels that nothing reads, factors shared between weights and shifts,
clips that change nothing, and whether a function of codes is a layer of its own make no difference.
"""

from npusim.program.forms.maps import Maps, numbers_of, places_of
from npusim.program.forms.outline import Orientation, Outline, StepOutline, outline, outline_step
from npusim.program.forms.step_functions import StepFunction

__all__ = [
    "Maps",
    "Orientation",
    "Outline",
    "StepFunction",
    "StepOutline",
    "numbers_of",
    "outline",
    "outline_step",
    "places_of",
]
