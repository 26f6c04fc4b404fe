"""Finds personal data that can be proven by its form, and replaces it by stable tokens.

Found: email addresses, phone numbers, card numbers (Luhn), IBANs (ISO 13616, mod 97) and IP addresses. Names and postal
addresses are not found. Where a form has a checksum or a parser, it must pass; a bare run of digits is never a phone number.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

EMAIL, PHONE, CARD, IBAN, IP = "email", "phone", "card", "iban", "ip"
KINDS = (EMAIL, PHONE, CARD, IBAN, IP)

_ASCII_DIGITS = "0123456789"
_LEAST_PHONE, _LEAST_CARD, _LEAST_IBAN_DIGITS = 9, 13, 2
_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![\w-])"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d\d(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,3})?(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![\w.-])(?:[2-6]\d{3}|1800)(?:[ -]?\d){9,15}(?![\w-])")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
_PHONES = (
    re.compile(r"(?<![\w+.-])(?:\+|(?<!\d )00)\d(?:[ ().-]{0,2}\d){7,14}(?:x\d{1,6})?(?!\w)"),
    re.compile(r"(?<![\w+.#-])(?<!\d )(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?:x\d{1,6})?(?!\w|-\d)"),
    re.compile(r"(?<![\w+.#-])(?<!\d )0\d{1,4}(?:(?:[ .-]\d{2,4}){2,4}|[ /-]\d{6,8})(?!\w|-\d)"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """`kind` at text[start:end]; equal `value` means the same datum in another spelling."""

    start: int
    end: int
    kind: str
    value: str


def find(text: str) -> list[Finding]:
    """Every provable personal datum in `text`, in order, without overlap."""
    found: list[Finding] = []
    starts: list[int] = []
    for finding in _candidates(text):
        place = bisect_left(starts, finding.start)
        is_free_before = place == 0 or found[place - 1].end <= finding.start
        if is_free_before and (place == len(found) or finding.end <= starts[place]):
            found.insert(place, finding)
            starts.insert(place, finding.start)
    return found


def pseudonymise(texts: Sequence[str]) -> tuple[list[str], dict[str, int]]:
    """`texts` (the messages of one example and its target) with `<EMAIL_1>` and the like, and how many data of each kind.

    The same datum gets the same token in all of them.
    """
    tokens: dict[tuple[str, str], str] = {}
    counts: dict[str, int] = {}
    out = []
    for text in texts:
        pieces, position = [], 0
        for finding in find(text):
            key = (finding.kind, finding.value)
            if key not in tokens:
                counts[finding.kind] = counts.get(finding.kind, 0) + 1
                tokens[key] = f"<{finding.kind.upper()}_{counts[finding.kind]}>"
            pieces += [text[position : finding.start], tokens[key]]
            position = finding.end
        out.append("".join([*pieces, text[position:]]))
    return out, counts


def luhn_holds(digits: str) -> bool:
    """The check digit of a card number (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (1 + place % 2)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def iban_holds(iban: str) -> bool:
    """The check digits of an IBAN without spaces (ISO 7064 mod 97-10)."""
    if not 15 <= len(iban) <= 34:
        return False
    return int("".join(str(int(letter, 36)) for letter in iban[4:] + iban[:4])) % 97 == 1


def _candidates(text: str) -> Iterable[Finding]:
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield Finding(match.start(), match.end(), EMAIL, match.group().casefold())
    digit_count = sum(map(text.count, _ASCII_DIGITS))
    if not digit_count:
        return
    if digit_count >= _LEAST_IBAN_DIGITS:
        yield from _ibans(text)
    if digit_count >= _LEAST_CARD:
        for match in _CARD.finditer(text):
            digits = _digits(match.group())
            if _LEAST_CARD <= len(digits) <= 19 and luhn_holds(digits):
                yield Finding(match.start(), match.end(), CARD, digits)
    # Most texts have too few dots, colons or digits, and counting those is much faster than looking for a pattern.
    for pattern, sign, least in ((_IPV4, ".", 3), (_IPV6, ":", 2)):
        for match in pattern.finditer(text) if text.count(sign) >= least else ():
            address = _address(match.group())
            if address is not None and not address.is_loopback and not address.is_unspecified:
                yield Finding(match.start(), match.end(), IP, str(address))
    for pattern in _PHONES if digit_count >= _LEAST_PHONE else ():
        for match in pattern.finditer(text):
            digits = _digits(match.group())
            if _LEAST_PHONE <= len(digits) <= 21:
                yield Finding(match.start(), match.end(), PHONE, digits)


def _ibans(text: str) -> Iterable[Finding]:
    for match in _IBAN.finditer(text):
        found = match.group()
        while len(found) >= 15:  # a word after the IBAN may look like its last group
            compact = found.replace(" ", "").upper()
            if iban_holds(compact):
                yield Finding(match.start(), match.start() + len(found), IBAN, compact)
                break
            found = found.rpartition(" ")[0]


def _digits(text: str) -> str:
    return "".join(letter for letter in text if letter in _ASCII_DIGITS)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if ":" in text and len(text) < 9:  # a::b is code, not an address
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
