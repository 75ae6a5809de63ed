"""Experiments on some samples: where each layer's error comes from, and what the layer does to the final output."""

from __future__ import annotations

from npusim.comparison.experiments.attribution import Experiments, experiment_samples, run_experiments

__all__ = ["Experiments", "experiment_samples", "run_experiments"]
