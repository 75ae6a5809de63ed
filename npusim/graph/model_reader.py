"""Reading a model of any format, told by its content: ONNX, TensorFlow Lite, or C source that holds a TensorFlow Lite model."""

from __future__ import annotations

from npusim.graph.c_header import find_model
from npusim.graph.graph import Graph
from npusim.graph.model_file import ModelFile
from npusim.graph.onnx_reader import read_graph
from npusim.graph.tflite_reader import is_tflite, read_tflite

__all__ = ["read_model"]


def read_model(model: ModelFile) -> Graph:
    """Parse a model into a graph.

    Raises
    ------
    ModelError
        If the bytes are not a model, or contradict themselves.
    UnsupportedError
        If the model is sound, but holds what npusim does not know.
    """
    if is_tflite(model.content):
        return read_tflite(model.content, model.label)
    held = find_model(model.content, model.label)
    if held is not None:
        return read_tflite(held, model.label)
    return read_graph(model)
