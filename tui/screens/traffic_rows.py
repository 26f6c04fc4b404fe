"""One exchange as a line of the Traffic list, and as the lines of its detail: pure functions of the exchange."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from capture import feedback
from capture.exchange import BASELINE, CANDIDATE, COMPLETE, OMITTED, Conversation, Exchange
from capture.feedback import Feedback
from capture.feedback_forms import COMMENT, DEFAULT_NAME, DEMONSTRATION
from capture.health import Health
from capture.messages import Message
from tui import words
from tui.reading import Detail
from tui.text import fit, one_line, safe, wrap
from tui.widgets.virtual_table import Column

_NARROW = 66
_WIDE = 110
_MOST_WORDS = 200
_NO_BODY = "(the body is not stored any more)"


@lru_cache(maxsize=8)
def columns(width: int) -> Sequence[Column[Exchange]]:
    """The columns that fit `width` cells; tokens and cost go first."""
    names = 20 if width >= _WIDE else 13 if width >= _NARROW else 11
    made: list[Column[Exchange]] = [
        Column("TIME", 8, lambda e: words.clock_time(e.started_us)),
        Column("TASK", names, lambda e: e.task or words.UNKNOWN),
        Column("MODEL", names - 1, lambda e: e.model_served or e.model_asked or words.UNKNOWN),
        Column("VAR", 3, variant),
        Column("ST", 3, lambda e: str(e.status or words.UNKNOWN)),
        Column("LAT", 5, lambda e: words.duration(e.latency_us), is_right=True),
    ]
    if width >= _NARROW:
        made += [
            Column("TOK", 5, lambda e: words.count(tokens(e)), is_right=True),
            Column("COST", 7, lambda e: words.money(e.cost_microusd), is_right=True),
        ]
    return (*made, Column("OUTPUT", 0, output))


def variant(exchange: Exchange) -> str:
    """B for the baseline, C for the candidate, `C>B` when the baseline stepped in for it, - without a flag."""
    if exchange.variant == CANDIDATE:
        return "C>B" if exchange.fallback_reason else "C"
    return "B" if exchange.variant == BASELINE else words.UNKNOWN


def tokens(exchange: Exchange) -> int | None:
    """Tokens in and out together; None when neither is known."""
    known = [number for number in (exchange.tokens_in, exchange.tokens_out) if number is not None]
    return sum(known) if known else None


def failure(exchange: Exchange) -> str:
    """Why the exchange did not reach the client whole; empty when it did."""
    if exchange.is_success:
        return ""
    reason = exchange.error_message or exchange.error_kind
    kind = exchange.state.replace("_", " ") if exchange.state != COMPLETE else ""
    return ": ".join(part for part in (kind, reason) if part) or f"status {exchange.status}"


def output(exchange: Exchange) -> str:
    """The answer, or `!` and the reason why there is none."""
    reason = failure(exchange)
    return f"! {reason}" if reason else answer_text(exchange)


def answer_text(exchange: Exchange) -> str:
    """The answer as lists show it, or that its content was left out of the store."""
    return "(not stored)" if exchange.content == OMITTED else exchange.output_text


def detail(exchange: Exchange, found: Detail, width: int, height: int) -> list[str]:
    """The exchange in at most `height` lines: rule, system, user, output, timing, feedback; what is cut says so.

    Output and what was asked last share the room; the system message gets what they leave.
    """
    rule = f" -- {one_line(exchange.task or 'no task', max(width - 40, 8))}  {exchange.id} "
    conversation = found.conversation
    asked = conversation.asked if conversation else ()
    nothing = _NO_BODY if conversation is None else words.UNKNOWN
    system = next((message.text for message in asked if message.role == "system"), "") or nothing
    last = next((message for message in reversed(asked) if message.role != "system"), None)
    question, name = (said(last), last.role) if last else (nothing, "user")
    answer, when = _answer(exchange, conversation), timing(exchange)
    cells = width - 11
    times = len(wrap(when, cells, max(height - 6, 1)))
    newest_first = sorted(found.feedback, key=lambda each: (_is_long(each), -each.created_us, -each.number))
    told = "   ".join(map(_told, newest_first))
    for_told = len(wrap(told, cells, max(height // 5, 2))) if told else 0
    room = max(height - 1 - times - for_told, 3)
    wanted_output, wanted_question = (len(wrap(text, cells, room)) for text in (answer, question))
    for_output = min(wanted_output, max(room // 2, room - 1 - wanted_question, 1))
    for_question = min(wanted_question, max(room - 1 - for_output, 1))
    for_system = max(room - for_output - for_question, 1)
    lines = [fit(rule + "-" * width, width, ends="-")]
    for title, text, most in (
        ("system", system, for_system),
        (name, question, for_question),
        ("output", answer, for_output),
        ("timing", when, times),
        ("feedback", told, for_told),
    ):
        lines += _block(title, text, width, most) if most else []
    return lines[:height]


def timing(exchange: Exchange) -> str:
    """First byte, total, tokens, cost and what was redacted, in one line."""
    parts = [
        f"first byte {words.duration(exchange.first_byte_us)}",
        f"total {words.duration(exchange.latency_us)}",
        f"tokens {words.count(exchange.tokens_in)} in / {words.count(exchange.tokens_out)} out",
        f"cost {words.money(exchange.cost_microusd)}",
    ]
    if exchange.redactions:
        parts.append(f"redacted {exchange.redactions}")
    if exchange.fallback_reason:
        parts.append(f"fell back: {exchange.fallback_reason}")
    return "   ".join(parts)


def _told(each: Feedback) -> str:
    """One feedback in a few words: what is judged unless that is the answer as such, what was said, by whom."""
    said = one_line(feedback.words(each), _MOST_WORDS)
    if _is_long(each):
        said = f'{"should be " if each.kind == DEMONSTRATION else ""}"{said}"'
    about = "" if each.name == DEFAULT_NAME else f"{one_line(each.name, 20)}: "
    return f"{about}{said}" + (f" ({one_line(each.who, 20)})" if each.who else "")


def _is_long(each: Feedback) -> bool:
    return each.kind in (COMMENT, DEMONSTRATION)


def whole(exchange: Exchange, found: Detail) -> str:
    """Everything about the exchange as text to read and to copy, exactly as captured."""
    conversation = found.conversation
    facts = [
        ("id", exchange.id), ("at", words.moment(exchange.started_us)),
        ("asked", f"{exchange.method} {exchange.path}"), ("task", exchange.task or words.UNKNOWN), ("purpose", exchange.purpose),
        ("model", f"{exchange.model_served or words.UNKNOWN} (asked for {exchange.model_asked or words.UNKNOWN})"),
        ("upstream", exchange.upstream or words.UNKNOWN), ("variant", _assignment(exchange)),
        ("state", f"{exchange.state}, status {exchange.status or words.UNKNOWN}"), ("failed", failure(exchange)),
        ("finish", exchange.finish_reason), ("timing", timing(exchange)), ("user", exchange.user_name),
        ("session", exchange.session_name), ("environ.", exchange.environment),
        ("tags", ", ".join(f"{key}={value}" for key, value in exchange.tags.items())),
    ]  # fmt: skip
    parts = ["\n".join(f"{name:9}{value}" for name, value in facts if value)]
    if found.feedback:
        parts.append("-- feedback\n" + "\n".join(f"{words.moment(each.created_us)}  {_told(each)}" for each in found.feedback))
    parts += [f"-- {message.role}\n{said(message)}" for message in (conversation.asked if conversation else ())]
    parts.append(f"-- output\n{_answer(exchange, conversation)}")
    content = found.content
    for title, headers in (("request", content.request_headers), ("response", content.response_headers)) if content else ():
        if headers:
            parts.append(f"-- {title} headers\n" + "\n".join(f"{name}: {value}" for name, value in headers.items()))
    return "\n\n".join(parts)


def health_line(health: Health | None, *, is_following: bool, newer: int, width: int) -> str:
    """The state of traffic and of capture in one line; losses and a late store come first because they matter most."""
    if is_following:
        mode = "LIVE"
    else:
        mode = f"PAUSED {newer:,} newer, f follows" if newer else "PAUSED, f follows"
    if health is None:
        return f" {mode}"
    parts = [mode]
    if health.lost:
        parts.append(f"! {health.lost:,} lost")
    if health.dead_letters:
        parts.append(f"! {health.dead_letters:,} refused")
    if health.behind_us:
        parts.append(f"! store {words.duration(health.behind_us)} behind")
    share = f"{100 * health.errors / health.exchanges:.1f}%" if health.exchanges else words.UNKNOWN
    parts += [
        f"{health.rate:.1f}/s",
        f"p50 {words.duration(health.p50_us)}",
        f"p95 {words.duration(health.p95_us)}",
        f"err {share}",
    ]
    return " " + one_line("  ".join(parts), width - 1)


def _block(name: str, text: str, width: int, height: int) -> list[str]:
    lines = wrap(text, width - 11, height)
    return [f" {name if at == 0 else '':8} {line}" for at, line in enumerate(lines)]


def said(message: Message) -> str:
    """The message as text: its words, the names of parts that are not text, the tools it asked for."""
    parts = [message.text] if message.text else []
    parts += [f"[{part}]" for part in message.other_parts]
    parts += [f"-> {tool_call.name}({tool_call.arguments})" for tool_call in message.tool_calls]
    return "\n".join(parts)


def _answer(exchange: Exchange, conversation: Conversation | None) -> str:
    answered = said(conversation.answer) if conversation and conversation.answer else answer_text(exchange)
    reason = failure(exchange)
    return f"! {reason}\n{answered}".rstrip("\n") if reason else answered


def _assignment(exchange: Exchange) -> str:
    if not exchange.variant:
        return ""
    unit = f" by {exchange.unit_source} {safe(exchange.unit)}" if exchange.unit else ""
    return f"{exchange.variant}{unit}, flag revision {exchange.flag_revision}"
