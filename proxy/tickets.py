"""Realistic support tickets with closed labels, made from a seed.

Everything here is pure: the same seed gives the same tickets. All people, cards, accounts and keys are invented. `triage` is
the task that the demonstration distils; the other tasks are the rest of the traffic and have labels of their own. The answers
of the scripted teacher are in `ticket_teacher`.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from proxy import ticket_desks as desks
from proxy import ticket_texts as texts
from proxy.ticket_edits import nearly, personal_sentence, secret_sentence, with_typo
from proxy.ticket_grammar import PRODUCT_AREAS, expand

REPEAT_SHARE = 0.06
NEAR_DUPLICATE_SHARE = 0.10
TYPO_SHARE = 0.10
SECRET_SHARE = 0.02
PERSONAL_SHARE = 0.06
EMPTYISH_SHARE = 0.006
FOREIGN_SHARE = 0.006
_USERS = 300
_SHOP_QUEUES = tuple(texts.TRIAGE)


@dataclass(frozen=True, slots=True)
class TicketTask:
    """One use of the model by the support app; `labels` is empty for a task with a free-text answer."""

    name: str
    key: str
    labels: tuple[str, ...]
    system_prompt: str
    closing: str

    @property
    def full_prompt(self) -> str:
        """The system prompt with the labels in it, for a model that has to be told them."""
        return f"{self.system_prompt} Choose one {self.key}: {', '.join(self.labels)}." if self.labels else self.system_prompt

    def answer(self, label: str) -> str:
        """The JSON that the model should send for `label`."""
        return json.dumps({self.key: label})


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request of the app: `text` is what a customer wrote, `user_prompt` is the message with the app's boilerplate around it.

    `gold` is the right answer as the model should send it (JSON for a closed-label task). `kind` is fresh, repeat,
    near_duplicate, secret, personal, emptyish or foreign.
    """

    id: str
    task: str
    text: str
    gold: str
    system_prompt: str
    user_prompt: str
    user: str
    session: str
    kind: str


def _closed(name: str, key: str, who: str, labels: Sequence[str], closing: str) -> TicketTask:
    prompt = f'{who} Reply only with JSON: {{"{key}": "..."}}'
    return TicketTask(name, key, tuple(labels), prompt, closing)


_TASK_LIST = (
    _closed("triage", "queue", "You sort support tickets of a web shop.", _SHOP_QUEUES, "Which queue?"),
    _closed("it_desk", "queue", "You sort tickets of a company's IT desk.", tuple(desks.IT_DESK), "Which queue?"),
    _closed("hr_desk", "queue", "You sort tickets of an HR desk.", tuple(desks.HR_DESK), "Which queue?"),
    _closed("bank_desk", "queue", "You sort tickets of a bank.", tuple(desks.BANK_DESK), "Which queue?"),
    _closed("travel_desk", "queue", "You sort tickets of a travel agency.", tuple(desks.TRAVEL_DESK), "Which queue?"),
    _closed("clinic_desk", "queue", "You sort tickets of a clinic.", tuple(desks.CLINIC_DESK), "Which queue?"),
    _closed("urgency", "urgency", "You rate how urgent a support ticket is.", tuple(desks.URGENCY_CUES), "How urgent?"),
    _closed("sentiment", "sentiment", "You read the mood of a support ticket.", tuple(desks.SENTIMENT_CUES), "Which mood?"),
    _closed("product_area", "area", "You tell which products a ticket is about.", tuple(PRODUCT_AREAS), "Which area?"),
    _closed("next_action", "action", "You decide what the support team does next.", tuple(desks.ACTION_CUES), "Which action?"),
    _closed("spam", "kind", "You filter the support inbox.", ("real_customer", *desks.SPAM), "Which kind?"),
    _closed(
        "language", "language", "You detect the language of a ticket.", ("lang_english", *desks.LANGUAGES), "Which language?"
    ),
    TicketTask("reply", "", (), "You answer support tickets of a web shop in two short and friendly sentences.", "Your answer:"),
)
TASKS: Mapping[str, TicketTask] = {task.name: task for task in _TASK_LIST}

_PLAIN: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "triage": texts.TRIAGE,
    "it_desk": desks.IT_DESK,
    "hr_desk": desks.HR_DESK,
    "bank_desk": desks.BANK_DESK,
    "travel_desk": desks.TRAVEL_DESK,
    "clinic_desk": desks.CLINIC_DESK,
    "spam": desks.SPAM,
    "language": desks.LANGUAGES,
}
_CUES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "urgency": desks.URGENCY_CUES,
    "sentiment": desks.SENTIMENT_CUES,
    "next_action": desks.ACTION_CUES,
}
_ANY_PRODUCT = re.compile(r"\b(?:" + "|".join(name for names in PRODUCT_AREAS.values() for name in names) + r")\b")
_PROMPT = re.compile(r"\ATicket #\d+ \(\w+, \w+ [\d:]+\)\n(.*)\n-- [^\n]*\Z", re.DOTALL)


def task_of(system_prompt: str) -> TicketTask | None:
    """The ticket task that this system prompt belongs to, or None."""
    text = system_prompt.strip()
    return next((task for task in _TASK_LIST if text in (task.system_prompt, task.full_prompt)), None)


def ticket_text(user_prompt: str) -> str:
    """What the customer wrote, without the app's boilerplate; `user_prompt` itself when it has none."""
    found = _PROMPT.match(user_prompt)
    return found.group(1) if found else user_prompt


def reply_text(text: str, queue: str) -> str:
    """The short reply to a ticket of `queue`; the same text always gets the same reply."""
    rng = random.Random(blake2b(text.encode(), digest_size=8).digest())
    return f"{rng.choice(('Hello', 'Hi', 'Dear customer'))}, {expand(desks.REPLIES[queue][0], rng)}"


def fresh_text(task: str, label: str, rng: random.Random) -> str:
    """One text of `task` with the meaning `label`, without slips; for `reply`, `label` is a queue of triage."""
    if task in _CUES:
        cue = expand(rng.choice(_CUES[task][label]), rng) + "."
        core = _shop_core(rng.choice(_SHOP_QUEUES), rng)
        return _around(f"{cue} {core}" if rng.random() < 0.3 else f"{core} {cue}", rng)
    if task == "product_area":
        about = expand("[About the|Regarding the|This is about the|It concerns my|Topic: the|I own the|My]", rng)
        core = _around(_shop_core(rng.choice(_SHOP_QUEUES), rng), rng)
        return f"{about} {rng.choice(PRODUCT_AREAS[label])}: {_ANY_PRODUCT.sub('item', core)}"
    if label in ("real_customer", "lang_english"):
        return _around(_shop_core(rng.choice(_SHOP_QUEUES), rng), rng)
    if task == "reply":
        return _around(_shop_core(label, rng), rng)
    core = expand(rng.choice(_PLAIN[task][label]), rng)
    return core if task == "language" else _around(core, rng)


def make_tickets(seed: int, count: int, task: str = "triage") -> list[Ticket]:
    """`count` tickets of `task` in the order of their arrival, as `seed` decides.

    A repeat sends an earlier request again, byte for byte; a near duplicate is an earlier text in slightly other form under a new
    ticket number. Users come from one pool for all seeds, a few of them writing often.
    """
    spec = TASKS[task]
    rng = random.Random(f"{task}:{seed}")
    user_shares = [1 / (rank + 10) ** 0.8 for rank in range(_USERS)]
    tickets: list[Ticket] = []
    labels: list[str] = []
    waiting: list[str] = []
    for index in range(count):
        draw = rng.random()
        earlier = rng.randrange(index) if index and draw < REPEAT_SHARE + NEAR_DUPLICATE_SHARE else -1
        if earlier >= 0 and draw < REPEAT_SHARE:
            text, label, kind = tickets[earlier].text, labels[earlier], "repeat"
        elif earlier >= 0 and tickets[earlier].kind not in ("emptyish", "foreign"):
            text, label, kind = nearly(tickets[earlier].text, rng), labels[earlier], "near_duplicate"
        else:
            waiting = waiting or rng.sample(spec.labels or _SHOP_QUEUES, len(spec.labels or _SHOP_QUEUES))
            text, label, kind = _new_text(task, waiting.pop(), rng)
        gold = spec.answer(label) if spec.labels else reply_text(text, label)
        prompt = tickets[earlier].user_prompt if kind == "repeat" else _user_prompt(text, spec.closing, rng)
        user = f"user_{rng.choices(range(_USERS), user_shares)[0]:03d}"
        session = f"{user}-{rng.randrange(3)}"
        tickets.append(Ticket(f"{task}-{seed}-{index:05d}", task, text, gold, spec.system_prompt, prompt, user, session, kind))
        labels.append(label)
    return tickets


def _new_text(task: str, label: str, rng: random.Random) -> tuple[str, str, str]:
    """A ticket that no earlier one resembles: (text, label, kind)."""
    draw = rng.random()
    if task == "triage" and draw < EMPTYISH_SHARE:
        return rng.choice(texts.EMPTYISH), "general_question", "emptyish"
    if task == "triage" and draw < EMPTYISH_SHARE + FOREIGN_SHARE:
        return expand(rng.choice(texts.FOREIGN_TRIAGE[label]), rng), label, "foreign"
    text, kind = fresh_text(task, label, rng), "fresh"
    if rng.random() < TYPO_SHARE:
        text = with_typo(text, rng)
    draw = rng.random()
    if draw < SECRET_SHARE:
        text, kind = f"{text} {secret_sentence(rng)}", "secret"
    elif draw < SECRET_SHARE + PERSONAL_SHARE:
        text, kind = f"{text} {personal_sentence(rng)}", "personal"
    return text, label, kind


def _shop_core(queue: str, rng: random.Random) -> str:
    return expand(rng.choice(texts.TRIAGE[queue]), rng)


def _around(core: str, rng: random.Random) -> str:
    """`core` with the habits of letters: a greeting, an aside before or after it, a sign-off, now and then no capitals."""
    aside = expand(texts.ASIDES, rng)
    middle = [aside, core] if rng.random() < 0.4 else [core, aside]
    parts = [expand(texts.GREETINGS, rng), *middle, expand(texts.SIGN_OFFS, rng)]
    text = rng.choice((" ", " ", " ", "\n")).join(part for part in parts if part)
    habit = rng.random()
    return text.lower() if habit < 0.12 else text.replace(".", "!") if habit < 0.15 else text


def _user_prompt(text: str, closing: str, rng: random.Random) -> str:
    channel = rng.choice(("email", "chat", "form", "phone"))
    when = f"{rng.choice(('Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'))} {rng.randrange(24):02d}:{rng.randrange(60):02d}"
    return f"Ticket #{rng.randrange(10_000, 100_000)} ({channel}, {when})\n{text}\n-- {closing}"
