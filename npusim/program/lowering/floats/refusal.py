"""Why a node of a float graph becomes no quantized layer."""

from __future__ import annotations

__all__ = ["Refusal"]


class Refusal(Exception):  # noqa: N818 - a finding that decides between two ways to quantize, never an error the user sees
    """Why a node stays in float on the host; the text completes "... is kept in float, because"."""
