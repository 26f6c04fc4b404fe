"""What befalls a ticket on its way in: slips, the same text sent again, keys and personal data in the wrong place."""

from __future__ import annotations

import random

from proxy.ticket_grammar import expand

_ALPHANUMERIC = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def with_typo(text: str, rng: random.Random) -> str:
    """`text` with one or two slips in words of five letters and more: letters swapped, dropped or doubled."""
    words = text.split(" ")
    long = [at for at, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    for at in rng.sample(long, min(len(long), rng.choice((1, 1, 2)))):
        word, spot = words[at], rng.randrange(1, len(words[at]) - 2)
        swapped = word[:spot] + word[spot + 1] + word[spot] + word[spot + 2 :]
        words[at] = rng.choice((swapped, word[:spot] + word[spot + 1 :], word[:spot] + word[spot] + word[spot:]))
    return " ".join(words)


def nearly(text: str, rng: random.Random) -> str:
    """`text` as the same customer sends it again: a slip, a courtesy, other white space or other case."""
    edit = rng.randrange(5)
    if edit == 0:
        return with_typo(text, rng)
    if edit == 1:
        return f"{text} {rng.choice(('Please!', 'Thank you.', 'Any news?', 'Sorry for asking again.'))}"
    if edit == 2:
        return f"{rng.choice(('Again:', 'Reminder:', 'Hello,', 'Please:'))} {text}"
    return text.replace(". ", ".\n").replace(", ", ",  ") + " " if edit == 3 else text.lower().rstrip(".!") + "!!"


def secret_sentence(rng: random.Random) -> str:
    """A sentence with a made-up access key in the form of a well-known provider's."""
    if rng.random() < 0.5:
        return f"My api key is sk-proj-{_letters(rng, _ALPHANUMERIC, 40)}"
    return f"We use AKIA{_letters(rng, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567', 16)} for the feed."


def personal_sentence(rng: random.Random) -> str:
    """A sentence with a made-up mail address, phone number, card number (passes the Luhn check) or IBAN (right check digits)."""
    kind = rng.randrange(4)
    if kind == 0:
        return f"Mail me at {expand('{name}.{place}', rng).lower()}{rng.randrange(100)}@example.com"
    if kind == 1:
        return f"My phone is +49 170 {rng.randrange(1_000_000, 9_999_999)}"
    if kind == 2:
        card = _card_number(rng)
        return f"Card {' '.join(card[at : at + 4] for at in range(0, 16, 4))}"
    return f"My IBAN is {_iban(rng)}"


def _card_number(rng: random.Random) -> str:
    digits = [4, *(rng.randrange(10) for _ in range(14))]
    total = sum(digit if place % 2 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(digits))
    return "".join(map(str, [*digits, -total % 10]))


def _iban(rng: random.Random) -> str:
    account = _letters(rng, "0123456789", 18)
    return f"DE{98 - int(account + '131400') % 97:02d}{account}"


def _letters(rng: random.Random, alphabet: str, count: int) -> str:
    return "".join(rng.choice(alphabet) for _ in range(count))
