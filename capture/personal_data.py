"""Finds personal data that can be proven by its form, and replaces it by stable tokens.

Found: email addresses, phone numbers, card numbers (Luhn), IBANs (ISO 13616, mod 97), IP and MAC addresses, US social security
numbers (the ranges that are given out), and dates of birth that are called so. Names and postal addresses are not found. Where
a form has a checksum or a parser, it must pass; a bare run of digits is a phone number only where the text calls it one.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ahocorasick_rs import AhoCorasick, MatchKind

EMAIL, PHONE, CARD, IBAN, IP, MAC, SSN, BIRTH_DATE = "email", "phone", "card", "iban", "ip", "mac", "ssn", "birth_date"
KINDS = (EMAIL, PHONE, CARD, IBAN, IP, MAC, SSN, BIRTH_DATE)

_ASCII_DIGITS = "0123456789"
_LEAST_PHONE, _LEAST_CALLED_PHONE, _LEAST_CARD, _LEAST_IBAN_DIGITS, _LEAST_DATE = 9, 7, 12, 2, 4
_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![\w-])"
)
# What stands before a number is looked at after its first sign: a pattern that begins with a class of signs is found several
# times faster than one that begins with a look behind.
_IBAN = re.compile(
    r"\d(?<=[A-Za-z]{2}\d)(?<![A-Za-z0-9][A-Za-z]{2}\d)\d(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,3})?(?![A-Za-z0-9])"
)
_CARD = re.compile(r"[1-6](?<![\w.-].)(?:(?<=[2-6])\d{3}|(?<=1)800)(?:[ -]?\d){8,15}(?![\w-])")
_IPV4 = re.compile(r"\d(?<![\w.].)\d{0,2}(?:\.\d{1,3}){3}(?![\w.]*\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
_MAC = re.compile(r"[0-9A-Fa-f](?<![\w:-].)[0-9A-Fa-f]([:-])[0-9A-Fa-f]{2}(?:\1[0-9A-Fa-f]{2}){4}(?![\w:-])")
_SSN = re.compile(r"[0-8](?<![\w+.#/-].)(?<!\d .)\d\d([ -])\d\d\1\d{4}(?![\w-])")
_PHONES = (
    re.compile(r"[+0](?<![\w+.-].)(?:(?<=\+)|(?<!\d .)(?<=0)0)\d(?:[ ().-]{0,2}\d){7,14}(?:x\d{1,6})?(?!\w)"),
    re.compile(
        r"[\d(](?<![\w+.#-].)(?<!\d .)(?:(?<=1)[ .-](?:\(\d{3}\) ?|\d{3}[ .-])|(?<=\()\d{3}\) ?|(?<=\d)\d\d[ .-])"
        r"\d{3}[ .-]\d{4}(?:x\d{1,6})?(?!\w|-\d)"
    ),
    re.compile(r"0(?<![\w+.#-].)(?<!\d .)\d{1,4}(?:(?:[ .-]\d{2,4}){2,4}|[ /-]\d{6,8})(?!\w|-\d)"),
)
_PHONE_IN_BRACKETS = re.compile(r"\((?<![\w.#)-].)(?<!\d .)0?\d{2,4}\) ?\d{2,4}(?:[ -]\d{2,4}){1,3}(?!\w|[-.,]\d)")
_CALLED_PHONE = re.compile(r"[\d(](?<![\w+.#-].)(?:[ ()./-]{0,2}\d){6,14}(?!\w|[-.,]\d)")
"""A number of any form; what stands before or after it has to say that it is a phone number."""
_BEFORE_PHONE = re.compile(
    r"(?:(?<![^\W_])(?:(?:tele)?phones?|telefone?|telefon(?:nummer)?|téléphone|teléfono|tel|tél|mobile?|mobil(?:nummer)?|cell(?:ulare)?"
    r"|móvil|portable|handy|rufnummer|fax|hotline|landline|whatsapp|desk)(?:[ _]?(?:numbers?|no|nr|is|at|on))*"
    r"|\b(?:call|calling|ring|dial|reach|answer|answering)(?: (?:me|us|him|her|them|back))?(?: (?:on|at|under))"
    r"|\bmy number is)[\s.:#=\\\"']{0,5}\Z",
    re.IGNORECASE,
)
_AFTER_PHONE = re.compile(r"(?:[ -]|, )\(?(?:office|mobile|cell|fax|tel|phone|home|work)\b\W*(?:\n|\\|\Z)", re.IGNORECASE)
_DATE = re.compile(r"\d(?<![\w.:/-].)\d{0,3}([./-]) ?\d{1,2}\1 ?\d{2,4}(?![\w/-])")
_BEFORE_BIRTH = re.compile(
    r"(?<![^\W_])(?:born|dob|d\.o\.b\.?|(?:date|day)[ _]of[ _]birth|birth[ _]?(?:date|day)|geboren|geburtstag|geburtsdatum|geb\."
    r"|née? le|date de naissance|nacid[oa]|fecha de nacimiento|nat[oa] il|data di nascita|nascid[oa]|geboortedatum)"
    r"(?:[\s.:,]+(?:is|was|on|am|el|em|op|it['’]?s|the)\b)*[\s.:,=\\\"']*\Z",
    re.IGNORECASE,
)
_BEFORE_CARD = re.compile(r"\b(?:card|maestro)\b[^\n\d>\]]{0,24}\Z", re.IGNORECASE)
_BEFORE_ORDER = re.compile(
    r"\b(?:order|ticket|invoice|case|ref(?:erence)?|part|item|serial|sku|model|tracking|version|id)(?: (?:no|nr|number|id|is))*"
    r"[.:#]{0,2}\s?\Z",
    re.IGNORECASE,
)
_SAYS_SSN = re.compile(r"\b(?:ssn|social security)\b[^\n\d>\]]{0,24}\Z", re.IGNORECASE)
_NEAR = 48


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
    _add(found, _candidates(text))
    return found


def find_all(texts: Sequence[str]) -> list[list[Finding]]:
    """What `find` finds in each of `texts` (the messages of one example and its target).

    What one of them proves, by calling a number a phone number, holds for the same spelling everywhere in them.
    """
    return joined(texts, [find(text) for text in texts], [() for _ in texts])


def joined(texts: Sequence[str], found: Sequence[Sequence[Finding]], more: Sequence[Sequence[Finding]]) -> list[list[Finding]]:
    """For each of `texts` those `found` and those of `more` that do not overlap with them, the first come first, in order.

    What is found in one text is then found wherever it stands as a whole in the others.
    """
    out = [sorted(of_text, key=lambda one: one.start) for of_text in found]
    for of_text, others in zip(out, more, strict=True):
        _add(of_text, others)
    proven = {text[one.start : one.end]: one for text, of_text in zip(texts, out, strict=True) for one in of_text}
    if proven:
        spellings = list(proven)
        matcher = AhoCorasick([_encodable(spelling) for spelling in spellings], matchkind=MatchKind.LeftmostLongest)
        for text, of_text in zip(texts, out, strict=True):
            matches = matcher.find_matches_as_indexes(_encodable(text))
            known = ((start, end, proven[spellings[index]]) for index, start, end in matches)
            _add(of_text, [Finding(start, end, it.kind, it.value) for start, end, it in known if _is_whole(text, start, end)])
    return out


def replaced(texts: Sequence[str], found: Sequence[Sequence[Finding]]) -> tuple[list[str], dict[str, int]]:
    """`texts` with a token such as `<EMAIL_1>` for each of `found`, and how many data of each kind that were.

    Findings are in order and do not overlap; the same datum gets the same token in all texts.
    """
    tokens: dict[tuple[str, str], str] = {}
    counts: dict[str, int] = {}
    out = []
    for text, of_text in zip(texts, found, strict=True):
        pieces, position = [], 0
        for finding in of_text:
            key = (finding.kind, finding.value)
            if key not in tokens:
                counts[finding.kind] = counts.get(finding.kind, 0) + 1
                tokens[key] = f"<{finding.kind.upper()}_{counts[finding.kind]}>"
            pieces += [text[position : finding.start], tokens[key]]
            position = finding.end
        out.append("".join([*pieces, text[position:]]))
    return out, counts


def pseudonymise(texts: Sequence[str]) -> tuple[list[str], dict[str, int]]:
    """`texts` (the messages of one example and its target) with `<EMAIL_1>` and the like, and how many data of each kind.

    The same datum gets the same token in all of them.
    """
    return replaced(texts, find_all(texts))


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


def _add(found: list[Finding], more: Iterable[Finding]) -> None:
    """Puts into `found`, which is in order, those of `more` that overlap with nothing there; the first come first."""
    starts = [finding.start for finding in found]
    for finding in more:
        place = bisect_left(starts, finding.start)
        is_free_before = place == 0 or found[place - 1].end <= finding.start
        if is_free_before and (place == len(found) or finding.end <= starts[place]):
            found.insert(place, finding)
            starts.insert(place, finding.start)


def _is_whole(text: str, start: int, end: int) -> bool:
    return not _goes_on(text[max(0, start - 1) : start], text[start]) and not _goes_on(text[end - 1], text[end : end + 1])


def _goes_on(left: str, right: str) -> bool:
    """Whether two neighbouring signs belong to one word or number."""
    return bool(left and right) and (left.isalnum() or left in "_.+-") and right.isalnum()


def _encodable(text: str) -> str:
    """`text` with marks for lone surrogates, sign by sign."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


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
        yield from _cards(text)
    yield from _addresses(text)
    if digit_count >= _LEAST_PHONE:
        yield from _social_security_numbers(text)
    if digit_count >= _LEAST_DATE and any(text.count(sign) >= 2 for sign in "-./"):
        for match in _DATE.finditer(text):
            if _BEFORE_BIRTH.search(_before(text, match.start())):
                value = "-".join(re.findall(r"\d+", match.group()))
                yield Finding(match.start(), match.end(), BIRTH_DATE, value)
    for pattern in _PHONES if digit_count >= _LEAST_PHONE else ():
        for match in pattern.finditer(text):
            digits = _digits(match.group())
            if _LEAST_PHONE <= len(digits) <= 21:
                yield Finding(match.start(), match.end(), PHONE, digits)
    if "(" in text:
        for match in _PHONE_IN_BRACKETS.finditer(text):
            digits = _digits(match.group())
            if _LEAST_PHONE - 1 <= len(digits) <= 15:
                yield Finding(match.start(), match.end(), PHONE, digits)
    if digit_count >= _LEAST_CALLED_PHONE:
        yield from _called_phones(text)


def _before(text: str, start: int) -> str:
    return text[max(0, start - _NEAR) : start]


def _ibans(text: str) -> Iterable[Finding]:
    for match in _IBAN.finditer(text):
        start = match.start() - 2
        found = text[start : match.end()]
        while len(found) >= 15:  # a word after the IBAN may look like its last group
            compact = found.replace(" ", "").upper()
            if iban_holds(compact):
                yield Finding(start, start + len(found), IBAN, compact)
                break
            found = found.rpartition(" ")[0]


def _cards(text: str) -> Iterable[Finding]:
    for match in _CARD.finditer(text):
        digits = _digits(match.group())
        if not _LEAST_CARD <= len(digits) <= 19 or not luhn_holds(digits):
            continue
        # One number in ten passes Luhn, and twelve digits are common; Maestro cards may have no more.
        if len(digits) > _LEAST_CARD or _BEFORE_CARD.search(_before(text, match.start())):
            yield Finding(match.start(), match.end(), CARD, digits)


def _addresses(text: str) -> Iterable[Finding]:
    # Most texts have too few dots or colons, and counting those is much faster than looking for a pattern.
    colons = text.count(":")
    for pattern, is_possible in ((_IPV4, text.count(".") >= 3), (_IPV6, colons >= 2)):
        for match in pattern.finditer(text) if is_possible else ():
            address = _address(match.group())
            if address is not None and not address.is_loopback and not address.is_unspecified:
                yield Finding(match.start(), match.end(), IP, str(address))
    for match in _MAC.finditer(text) if colons >= 5 or text.count("-") >= 5 else ():
        value = match.group().upper().replace("-", ":")
        if any(letter in "ABCDEF" for letter in value):  # six pairs of digits may be anything
            yield Finding(match.start(), match.end(), MAC, value)


def _social_security_numbers(text: str) -> Iterable[Finding]:
    """US numbers in groups of 3, 2 and 4 that can have been given out (no 000, 666 or 9xx, no group of zeros)."""
    for match in _SSN.finditer(text):
        digits, before = _digits(match.group()), _before(text, match.start())
        is_possible = digits[:3] not in ("000", "666") and digits[3:5] != "00" and digits[5:] != "0000"
        is_called_so = _SAYS_SSN.search(before) is not None
        if is_possible and (is_called_so or (match[1] == "-" and not _BEFORE_ORDER.search(before))):
            yield Finding(match.start(), match.end(), SSN, digits)


def _called_phones(text: str) -> Iterable[Finding]:
    """Numbers of any form that the text calls phone numbers."""
    for match in _CALLED_PHONE.finditer(text):
        digits = _digits(match.group())
        if not _LEAST_CALLED_PHONE <= len(digits) <= 15 or _DATE.match(text, match.start()):
            continue
        begins_line = match.start() == 0 or text[match.start() - 1] == "\n"
        if _BEFORE_PHONE.search(_before(text, match.start())) or (begins_line and _AFTER_PHONE.match(text, match.end())):
            yield Finding(match.start(), match.end(), PHONE, digits)


def _digits(text: str) -> str:
    return "".join(letter for letter in text if letter in _ASCII_DIGITS)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if ":" in text and len(text) < 9:  # a::b is code, not an address
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
