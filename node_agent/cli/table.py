"""Columns for people. Pure; used by the commands that print tables."""

from __future__ import annotations

from collections.abc import Sequence


def lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line per row, every column as wide as its widest cell; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
