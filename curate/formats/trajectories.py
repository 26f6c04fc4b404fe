"""Trajectories of agents as tau-bench writes them: the turns of a whole conversation with calls of tools, and its reward.

Format: https://github.com/sierra-research/tau-bench (historical_trajectories). Each turn of the agent is an answer to learn;
the reward was given to the conversation, so it stands at each of them. Several trials of one task stay apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capture.imports.values import as_text
from curate.formats.row import Row, conversation, tools_in


def read(record: Mapping[str, Any]) -> Row:
    """The answers of a trajectory; LineError."""
    names = [as_text(record[name]) for name in ("task_id", "trial") if record.get(name) is not None]
    return Row(conversation(record.get("traj")), tools_in(record.get("tools")), id="/".join(names))
