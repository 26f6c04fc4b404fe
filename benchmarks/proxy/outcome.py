"""What a comparison has found, and how it becomes the announced JSON object and a page of Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

from benchmarks.conditions import Conditions
from benchmarks.figures import Figure, table
from benchmarks.proxy.contestants import DIRECT, LITELLM, NGINX, PORTKEY, POTSTILL, WRITER
from benchmarks.proxy.traffic import BIG, BURST, JSON, MANY, PACED, TLS

MARKERS = ("<!-- results of proxies -->", "<!-- end of results of proxies -->")
LATENCY, FIRST_BYTE = "latency", "ttfb"
TITLES: Mapping[str, str] = {
    JSON: "JSON, 0.9 KB asked and 1.2 KB answered",
    MANY: "the same from 5,000 users in place of 300",
    BURST: "stream of 100 events in one burst",
    PACED: "stream of 50 events, 5 ms apart",
    BIG: "JSON, 100 KB asked",
    TLS: "JSON, TLS to the upstream",
    LATENCY: "added latency of JSON",
    FIRST_BYTE: "added time to the first byte of a stream",
}
SHOWN: Mapping[str, str] = {
    POTSTILL: "Potstill, full capture",
    WRITER: "its store writer, beside it",
    NGINX: "nginx",
    LITELLM: "LiteLLM",
    PORTKEY: "Portkey",
    DIRECT: "the upstream itself",
}
_ORDER = tuple(SHOWN)
_GOALS: Mapping[str, tuple[tuple[str, str], ...]] = {
    JSON: ((LITELLM, POTSTILL), (PORTKEY, POTSTILL), (POTSTILL, NGINX)),
    MANY: ((POTSTILL, NGINX),),
    BURST: ((LITELLM, POTSTILL),),
    PACED: ((POTSTILL, NGINX),),
    BIG: ((LITELLM, POTSTILL),),
}

Rounds = dict[str, list[float]]
"""One value for each round, by contestant."""


@dataclass(frozen=True, slots=True)
class Table:
    """Figures that are taken once; every row has the same columns."""

    part: str
    title: str
    rows: Sequence[Mapping[str, object]]


@dataclass(slots=True)
class Findings:
    """All that was measured. `problems` are reasons not to believe it: an answer that failed, an exchange that is missing."""

    cpu_us: dict[str, Rounds] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    per_s: dict[str, Rounds] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    added_ms: dict[str, Rounds] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    added_p99_ms: dict[str, Rounds] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    rss_mb: dict[str, float] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    foreign_cores: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def as_json(self, conditions: Conditions, missing: Mapping[str, str]) -> dict[str, object]:
        """The announced object: medians of the rounds. What was not measured is null, or not there by name."""
        added = _medians(self.added_ms)
        return {
            "cpu_us": _medians(self.cpu_us),
            "cpu_us_both": {scenario: median(both) for scenario in self.cpu_us if (both := self._both(scenario))},
            "ratios": self._ratios(),
            "added_p50_ms": added.get(LATENCY, {}).get(POTSTILL),
            "added_ttfb_p50_ms": added.get(FIRST_BYTE, {}).get(POTSTILL),
            "rss_mb": self.rss_mb.get(POTSTILL),
            "added_p50_ms_of": added.get(LATENCY, {}),
            "added_ttfb_p50_ms_of": added.get(FIRST_BYTE, {}),
            "rss_mb_of": self.rss_mb,
            "requests_per_s": _medians(self.per_s),
            "parts": {each.part: [dict(row) for row in each.rows] for each in self.tables},
            "rounds": {scenario: {name: list(each) for name, each in found.items()} for scenario, found in self.cpu_us.items()},
            "not_installed": dict(missing),
            "foreign_cores": median(self.foreign_cores) if self.foreign_cores else None,
            "problems": self.problems,
            "notes": self.notes,
            "conditions": asdict(conditions),
        }

    def as_markdown(self, conditions: Conditions, missing: Mapping[str, str]) -> str:
        """The same in words and tables."""
        parts = ["\n".join((*conditions.as_lines(), *self._foreign()))]
        if figures := self._figures():
            parts.append(table(figures))
        parts += [f"**{each.title}**\n\n{_rows(each.rows)}" for each in self.tables]
        if self.rss_mb:
            sizes = ", ".join(f"{SHOWN[name]} {value:.0f}" for name, value in self.rss_mb.items())
            parts.append(f"Memory in use after the rounds, MB: {sizes}.")
        parts += [f"{SHOWN[name]} was not measured: {why}." for name, why in missing.items()]
        parts += self.notes
        parts += [f"Wrong: {each}." for each in self.problems]
        return "\n\n".join(parts)

    def _both(self, scenario: str) -> list[float]:
        found = self.cpu_us[scenario]
        return [sum(pair) for pair in zip(found.get(POTSTILL, ()), found.get(WRITER, ()), strict=False)]

    def _ratios(self) -> dict[str, dict[str, float]]:
        """Ratios of medians."""
        found: dict[str, dict[str, float]] = {}
        for scenario, pairs in _GOALS.items():
            cpu = self.cpu_us.get(scenario, {})
            found[scenario] = {f"{a}/{b}": median(cpu[a]) / median(cpu[b]) for a, b in pairs if a in cpu and b in cpu}
        return {scenario: each for scenario, each in found.items() if each}

    def _figures(self) -> list[Figure]:
        figures = []
        for scenario, found in self.cpu_us.items():
            title, unit = TITLES[scenario], "us CPU / request"
            figures += [Figure(title, SHOWN[name], unit, tuple(found[name])) for name in _ORDER if name in found]
            if both := self._both(scenario):
                figures.append(Figure(title, "Potstill and its store writer", unit, tuple(both)))
            for pair, value in self._ratios().get(scenario, {}).items():
                above, below = (SHOWN[name].partition(",")[0] for name in pair.split("/"))
                figures.append(Figure(title, f"{above} / {below}, of the medians", "x", (value,)))
        for kind, found in self.added_ms.items():
            title, tails = TITLES[kind], self.added_p99_ms[kind]
            figures += [Figure(title, _at(name, "p50"), "ms", tuple(found[name])) for name in _ORDER if name in found]
            figures += [Figure(title, _at(name, "p99"), "ms", tuple(tails[name])) for name in _ORDER if name in tails]
        return figures

    def _foreign(self) -> list[str]:
        if not self.foreign_cores:
            return []
        low, high = min(self.foreign_cores), max(self.foreign_cores)
        middle = median(self.foreign_cores)
        return [f"- While something was measured, others kept {middle:.2f} cores busy (lowest {low:.2f}, highest {high:.2f})."]


def _at(name: str, quantile: str) -> str:
    return f"{SHOWN[name]}, {quantile}" + (", not added" if name == DIRECT else "")


def _medians(found: Mapping[str, Rounds]) -> dict[str, dict[str, float]]:
    return {each: {name: median(values) for name, values in rounds.items()} for each, rounds in found.items()}


def _rows(rows: Sequence[Mapping[str, object]]) -> str:
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else SHOWN.get(str(value), str(value))
