"""Execution of programs: the `reference` engine, and what engines share."""
