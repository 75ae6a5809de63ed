"""What golden vectors should make a model do, which of it no input can, and how much of it samples cover."""

from __future__ import annotations

from npusim.golden.goals.coverage import Coverage, coverage_of
from npusim.golden.goals.goal import Goal, GoalTable
from npusim.golden.goals.table import goal_table

__all__ = ["Coverage", "Goal", "GoalTable", "coverage_of", "goal_table"]
