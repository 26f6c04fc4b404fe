"""The data card of a dataset version: what a person should know before training on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from capture import clock
from curate.terms import card_text

_PERSONAL = {
    "pseudonymise": "replaced by tokens such as `<EMAIL_1>`, in prompt and target alike",
    "drop": "such examples were dropped",
    "keep": "kept as it was",
}
_SINCE_FORMAT_2: Mapping[str, Any] = {
    "target_sources": {},
    "mix_in": {"examples": {}},
    "golden": {"pinned": 0, "answered_otherwise": 0},
    "preferences": {"sources": {}},
    "terms": {"read": "-", "by_terms": {}},
}
"""What the manifests of older versions do not say."""


def write_card(manifest: Mapping[str, Any]) -> str:
    """The card of the version that `manifest` describes, as Markdown."""
    manifest = {**_SINCE_FORMAT_2, **manifest}
    bill, counts, personal = manifest["bill"], manifest["counts"], manifest["personal_data"]
    dropped = "".join(f"| {reason} | {count} |\n" for reason, count in bill["dropped"].items())
    found = _listed(personal["found"]) or "none found"
    warnings = "".join(f"- {_plain(warning)}\n" for warning in manifest["warnings"]) or "- none\n"
    contradictions, template = manifest["contradictions"], manifest["template"]
    return f"""# Dataset `{_code(manifest["task"])}` v{manifest["number"]}

{counts["train"]} train, {counts["val"]} val and {counts["test"]} test examples, distilled from captured traffic.
Hash `{manifest["hash"]}`.

## Where it comes from

- Exchanges of task `{_code(manifest["task"])}` that an app asked and the teacher answered: {bill["selected"]}.
- Teachers: {_listed(manifest["teachers"], "unnamed")}.
- Targets: {_listed(manifest["target_sources"])}.
- Exchanges answered by a student: {manifest["selection"]["answered_by_student"]}, never selected.
- Mixed in from other tasks, for training only: {_listed(manifest["mix_in"]["examples"]) or "nothing"}.
- Golden set: {manifest["golden"]["pinned"]} pinned inputs, never trained on; the teacher answered
  {manifest["golden"]["answered_otherwise"]} exchanges with such an input otherwise than the expert.
- Preference pairs on inputs of train: {_listed(manifest["preferences"]["sources"]) or "none"}.

## The bill

| outcome | exchanges |
|---|---|
| kept | {bill["kept"]} |
{dropped}| **selected** | {bill["selected"]} |

## What was done

- Duplicates judged on the variable part: {template["segments"]} segments and {template["phrases"]} phrases of the app's
  template (v{template.get("version", 0)}) were set aside for the comparison (`template.json`). The examples themselves
  keep the whole prompt.
- Contradictions: {contradictions["inputs"]} inputs had several answers ({_listed(contradictions.get("kinds", {})) or "none"}),
  {contradictions["dropped"]} answers lost (decided by: {_listed(contradictions.get("decided_by", {})) or "nothing to decide"}).
- Personal data ({found}): {_PERSONAL[personal["policy"]]}. Names and postal addresses are
  {"looked for with Presidio" if manifest["settings"].get("presidio") else "not recognised"}.
- Splits are by group and never move: what is eval stays eval in every later version.
- Overlap of train and eval: exact {manifest["certificate"]["exact"]}, near {manifest["certificate"]["near"]}, shared 8-grams
  {manifest["certificate"]["ngram8"]}.

{card_text(manifest["terms"])}
## Warnings

{warnings}{_erasures(manifest)}"""


def _erasures(manifest: Mapping[str, Any]) -> str:
    """What was taken out after the version was frozen."""
    told = manifest.get("erasures", [])
    if not told:
        return ""
    lines = "".join(
        f"- {clock.iso(each['at_us'])[:10]}: {each['examples']} examples; the hash was `{each['hash_before']}`\n" for each in told
    )
    return f"\n## Erased after it was frozen\n\n{lines}"


def _listed(counts: Mapping[str, int], unnamed: str = "") -> str:
    return ", ".join(f"{_plain(name) or unnamed} ({count})" for name, count in counts.items())


def _plain(text: str) -> str:
    """Captured words on one line, without what Markdown or HTML would read."""
    flat = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", flat)


def _code(text: str) -> str:
    return " ".join(text.split()).replace("`", "'")
