"""The data card of a dataset version: what a person should know before training on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capture import clock

_PERSONAL = {
    "pseudonymise": "replaced by tokens such as `<EMAIL_1>`, in prompt and target alike",
    "drop": "such examples were dropped",
    "keep": "kept as it was",
}


def write_card(manifest: Mapping[str, Any]) -> str:
    """The card of the version that `manifest` describes, as Markdown."""
    bill, counts, personal = manifest["bill"], manifest["counts"], manifest["personal_data"]
    dropped = "".join(f"| {reason} | {count} |\n" for reason, count in bill["dropped"].items())
    teachers = ", ".join(f"{name or 'unnamed'} ({count})" for name, count in manifest["teachers"].items())
    found = ", ".join(f"{count} {kind}" for kind, count in personal["found"].items()) or "none found"
    warnings = "".join(f"- {warning}\n" for warning in manifest["warnings"]) or "- none\n"
    removed, template = manifest["contradictions"]["dropped"], manifest["template"]
    return f"""# Dataset `{manifest["task"]}` v{manifest["number"]}

{counts["train"]} train, {counts["val"]} val and {counts["test"]} test examples, distilled from captured traffic.
Hash `{manifest["hash"]}`.

## Where it comes from

- Exchanges of task `{manifest["task"]}` that an app asked and the teacher answered: {bill["selected"]}.
- Teachers: {teachers}.
- Exchanges answered by a student: {manifest["selection"]["answered_by_student"]}, never selected.

## The bill

| outcome | exchanges |
|---|---|
| kept | {bill["kept"]} |
{dropped}| **selected** | {bill["selected"]} |

## What was done

- Duplicates judged on the variable part: {template["segments"]} segments and {template["phrases"]} phrases of the app's
  template were set aside for the comparison (`template.json`). The examples themselves keep the whole prompt.
- Contradictions: {removed} answers lost against the majority.
- Personal data ({found}): {_PERSONAL[personal["policy"]]}. Names and postal addresses are not recognised.
- Splits are by group and never move: what is eval stays eval in every later version.
- Overlap of train and eval: exact {manifest["certificate"]["exact"]}, near {manifest["certificate"]["near"]}, shared 8-grams
  {manifest["certificate"]["ngram8"]}.

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
