"""A run of the benchmark of curation in words and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.conditions import Conditions

MARKERS = ("<!-- results of curation -->", "<!-- end of results of curation -->")


def markdown(found: Mapping[str, Any]) -> str:
    """What was measured of it, with the conditions."""
    parts = ["\n".join(Conditions(**found["conditions"]).as_lines())]
    if "near" in found:
        parts.append(_near(found["near"]))
    if "leak" in found:
        leak = found["leak"]
        parts.append(
            f"Eval rows with a true duplicate in train, {leak['rows']:,} rows, {leak['eval']:,} of them eval, no duplicates "
            f"deleted: {leak['leak']:.3%} after the final join, {leak['before_the_join']:.3%} before it, "
            f"{leak['random_rows']:.1%} where rows are drawn by chance. The join took {leak['taken_out_of_train']:,} rows out of "
            "train."
        )
    if "facility" in found:
        facility = found["facility"]
        parts.append(
            f"Facility location, {facility['chosen']:,} of {facility['rows']:,} vectors: {facility['cpu_s']:.1f} CPU s, "
            f"{facility['rss_mb']:.0f} MB; {facility['directions']:,} of 2,000 directions are in the choice, "
            f"{facility['directions_by_chance']:,} where it is by chance."
        )
    if "engines" in found:
        each = ", ".join(f"{name} {value['cpu_s']:.1f} CPU s" for name, value in found["engines"]["engines"].items())
        verdict = "identical" if found["engines"]["identical"] else "NOT identical"
        parts.append(f"Near duplicates and the hash of a dataset on all engines: {verdict} ({each}).")
    if "pii" in found:
        parts.append(_pii(found["pii"], found["pii_run"]))
    return "\n\n".join(parts)


def _near(sizes: Mapping[str, Any]) -> str:
    lines = [
        "| Near duplicates | | Precision | Recall | Hard negatives merged | Largest cluster | CPU s | MB |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for size, ours in sizes.items():
        for name, one in (("Potstill", ours), *ours["others"].items()):
            lines.append(
                f"| {size}, {ours['made_of']} | {name} | {one['precision']:.4f} | {one['recall']:.4f} | "
                f"{one['hard_negatives_merged']} of {one['hard_negatives']:,} | {one['largest_cluster']} | {one['cpu_s']:.1f} | "
                f"{one['rss_mb']:.0f} |"
            )
    return "\n".join(lines)


def _pii(kinds: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    lines = [
        f"Personal data in {run['texts']:,} labelled texts ({run['half']} half): "
        f"{run['mb_per_cpu_s']['ours']:.1f} MB a CPU second, Presidio {run['mb_per_cpu_s']['presidio']:.2f}.",
        "",
        "| Kind | Spans | Precision | Recall | Presidio: precision | Recall |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for kind, value in kinds.items():
        ours, theirs = value["ours"], value["presidio"]
        cells = [_share(one[name], one["found"]) for one in (ours, theirs) for name in ("precision", "recall")]
        lines.append(f"| {kind} | {max(ours['n'], theirs['n'])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _share(value: float | None, found: int) -> str:
    return "-" if value is None else f"{value:.3f}" if value or not found else f"0 ({found} found)"
