"""A comparison as one HTML file that opens offline: no script, no request, readable in print and in the dark."""

from __future__ import annotations

from npusim.comparison.report.page import ReportContent, check_drawable, render_report, write_report

__all__ = ["ReportContent", "check_drawable", "render_report", "write_report"]
