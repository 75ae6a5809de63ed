"""What a search may spend: time and evaluations."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Budget"]


@dataclass(slots=True)
class Budget:
    """What a search may spend.

    Attributes
    ----------
    seconds
        Time from its start on.
    evaluations
        Candidates computed; None for no limit.
    progress
        Called with the seconds spent and those allowed, in whole seconds.
    used
        Candidates computed so far.
    """

    seconds: float
    evaluations: int | None = None
    progress: Callable[[int, int], None] | None = None
    used: int = 0
    _start: float = field(default_factory=time.monotonic)
    _whole: Budget | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    @property
    def spent(self) -> bool:
        """True when there is nothing left."""
        return self.elapsed >= self.seconds or (self.evaluations is not None and self.used >= self.evaluations)

    def share(self, parts: int) -> Budget:
        """An equal part of what is left."""
        left = None if self.evaluations is None else max(self.evaluations - self.used, 0) // parts
        return Budget(max(self.seconds - self.elapsed, 0.0) / parts, left, _whole=self)

    def take(self, count: int) -> None:
        """Note that candidates were computed."""
        self.used += count
        if self._whole is not None:
            self._whole.take(count)
        if self.progress is not None:
            self.progress(int(self.elapsed), int(self.seconds))
