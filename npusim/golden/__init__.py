"""Golden vectors: inputs and exact results that catch a wrong device, and what a device's results say.

``goals``
    What vectors should make a model do.
``choice``
    Samples that reach most of it.
``folder``
    The files that are made from samples, written and verified.
``check``
    What a device wrote, compared and explained.

The modules at the top say what devices compute: the implementations of the input stage, and arithmetic with a fault.
"""
