"""The registry: one sense per key, everything reachable, every command real."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from tui import actions
from tui.actions import ACTIONS, EVERYWHERE, REVIEW, SCREENS, SENSES, State
from tui.palette import title
from tui.screens.overlays import commands_for, help_text

FULL = State(
    "traffic", task="triage", exchange_id="ex_1", filter='task:triage "card twice"', rows=3, targets=9, has_card=True, alike=2,
    has_verdict=True, has_release=True, tasks=2, share_bp=3_000, staged_bp=4_000,
)  # fmt: skip


def test_ids_and_labels_are_unique() -> None:
    assert len({action.id for action in ACTIONS}) == len(ACTIONS)
    assert len({action.label for action in ACTIONS}) == len(ACTIONS)


def test_a_key_has_one_sense_in_the_whole_app() -> None:
    senses: dict[str, set[str]] = {}
    for action in ACTIONS:
        for key in action.keys:
            senses.setdefault(key, set()).add(action.id)
    several = {key for key, ids in senses.items() if len(ids) > 1}
    digits = {key for key in several if key.isdigit()}
    assert several - digits <= set(SENSES)
    for digit in digits:
        assert {action.screens for action in ACTIONS if digit in action.keys} <= {EVERYWHERE, (REVIEW,)}


@pytest.mark.parametrize("screen", [*SCREENS, actions.OPENED])
def test_on_one_screen_a_key_does_one_thing(screen: str) -> None:
    keys = [key for binding in actions.bindings(screen) for key in binding.key.split(",")]
    assert len(keys) == len(set(keys))


def test_in_review_a_digit_picks_a_target_while_a_card_is_shown() -> None:
    with_card, without = State(REVIEW, has_card=True), State(REVIEW)
    assert [actions.for_digit(3, with_card).id, actions.for_digit(3, without).id] == ["review.pick3", "go.review"]  # type: ignore[union-attr]
    assert actions.for_digit(9, without) is None


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("screen", [*SCREENS, actions.OPENED])
def test_the_footer_fits_and_keeps_help(screen: str, width: int) -> None:
    line = actions.footer(screen, width)
    assert len(line) <= width
    assert "[?]help" in line


@pytest.mark.parametrize("screen", SCREENS)
def test_at_80_cells_no_hint_is_left_out(screen: str) -> None:
    assert actions.footer(screen, 80) == actions.footer(screen, 500)


@pytest.mark.parametrize("screen", SCREENS)
def test_help_names_every_action_of_the_screen_with_its_keys(screen: str) -> None:
    shown = help_text(screen)
    for action in actions.on_screen(screen):
        assert action.help in shown
        assert actions.shown_keys(action) in shown


def test_the_palette_titles_tell_actions_apart() -> None:
    assert len({title(action) for action in ACTIONS}) == len(ACTIONS)


@pytest.mark.parametrize("action", [action for action in ACTIONS if action.twin], ids=lambda action: action.id)
def test_the_twin_of_an_action_is_a_command_that_parses(action: actions.Action) -> None:
    from potstill.cli import make_parser

    words = shlex.split(actions.command(action, FULL))
    assert words[0] == "potstill"
    make_parser().parse_args(words[1:])


def test_a_twin_without_its_task_or_exchange_is_not_offered() -> None:
    bare = State("rollout")
    assert all("{" not in command and "TASK" not in command for _, command in commands_for(bare))
    assert actions.command(actions.by_id("share.rollback"), bare) == ""


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.id)
def test_read_only_refuses_what_writes_and_nothing_else(action: actions.Action) -> None:
    writes = action.id.startswith(("review.", "share.", "feedback.")) and action.id != "review.expand"
    assert (action.unavailable(replace(FULL, is_read_only=True)) is not None) == writes
    assert action.unavailable(FULL) is None


def test_a_reason_is_a_sentence() -> None:
    for action in ACTIONS:
        if reason := action.unavailable(State(action.screens[0])):
            assert reason[0].isupper()
            assert reason.endswith(".")
