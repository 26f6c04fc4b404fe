"""An interval against zero as a line of ASCII: `----|=====0==o==|----`, readable without colour."""

from __future__ import annotations


def interval_bar(value: float, low: float, high: float, limit: float, cells: int) -> str:
    """`value` as `o` in its interval `[low, high]`, on an axis from `-limit` to `limit`, in exactly `cells` cells (>= 7).

    An end beyond the axis is drawn as `<` or `>` at its edge.
    """
    cells = max(cells, 7)
    limit = limit if limit > 0 else 1.0

    def place(number: float) -> int:
        return round((min(max(number, -limit), limit) + limit) / (2 * limit) * (cells - 1))

    line = ["-"] * cells
    for at in range(place(low), place(high) + 1):
        line[at] = "="
    line[place(low)] = "<" if low < -limit else "|"
    line[place(high)] = ">" if high > limit else "|"
    line[place(0.0)] = "0"
    line[place(value)] = "o"
    return "".join(line)
