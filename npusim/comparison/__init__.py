"""A quantized model against its float model: which layer errs, by how much, and why.

``alignment``
    What of the float model stands for which layer.
``experiments``
    Where a layer's error comes from, and what it does to the output.
``outputs``
    What becomes of the outputs, over samples or a whole dataset.
``findings``
    Why a model is worse, as rules.
``report``
    All of it as one HTML file.

The modules at the top hold what these share: the sums, the metrics, and the results; ``float_comparison`` puts them together.
"""
