"""Values that benchmarks give back: figures with their spread, and how they become JSON and Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Tell = Callable[[str], None]
"""Hears one line of progress."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity, one value for each round. `group` gathers figures that are compared with each other."""

    group: str
    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return median(self.values)

    def as_json(self) -> dict[str, object]:
        """The figure with median, extremes and every round."""
        return {
            "group": self.group,
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "low": min(self.values),
            "high": max(self.values),
            "n": len(self.values),
            "values": list(self.values),
        }


@dataclass(frozen=True, slots=True)
class Result:
    """What one benchmark found. `counts` is how much work one round was; `notes` say what a reader must know."""

    benchmark: str
    counts: Mapping[str, int]
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """The result as plain values."""
        return {
            "benchmark": self.benchmark,
            "counts": dict(self.counts),
            "figures": [figure.as_json() for figure in self.figures],
            "notes": list(self.notes),
        }


def ratio(group: str, name: str, above: Sequence[float], below: Sequence[float]) -> Figure:
    """`above` divided by `below`, round by round, since both were measured side by side."""
    return Figure(group, name, "x", tuple(a / b for a, b in zip(above, below, strict=True)))


def table(figures: Sequence[Figure]) -> str:
    """A Markdown table with one line for each figure."""
    lines = ["| | Figure | Median | Lowest - highest | Unit | Rounds |", "|---|---|---:|---:|---|---:|"]
    group = ""
    for figure in figures:
        shown = figure.group if figure.group != group else ""
        group = figure.group
        spread = f"{_short(min(figure.values))} - {_short(max(figure.values))}"
        lines.append(f"| {shown} | {figure.name} | {_short(figure.median)} | {spread} | {figure.unit} | {len(figure.values)} |")
    return "\n".join(lines)


def _short(value: float) -> str:
    """Three digits that count, and no decimals beyond them."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
