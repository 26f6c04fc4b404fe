"""Personal data as Presidio finds them, beside our own forms; an extra: pip install 'potstill[presidio]'.

Offline: nothing is downloaded, no list of domains is fetched. Presidio's own recognisers of forms run without a language model.
Names and places need one, and are found where an English spaCy model (such as en_core_web_lg) is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from capture.errors import SettingsError
from capture.personal_data import CARD, EMAIL, IBAN, IP, MAC, PHONE, SSN, Finding, find_all, joined, replaced
from curate.settings import CurateSettings

LEAST_SCORE = 0.4
"""Presidio's score of a phone number without words that say so; below are bare runs of digits that may be a bank account."""
KINDS = {
    "EMAIL_ADDRESS": EMAIL, "PHONE_NUMBER": PHONE, "CREDIT_CARD": CARD, "IBAN_CODE": IBAN, "IP_ADDRESS": IP, "MAC_ADDRESS": MAC,
    "US_SSN": SSN, "US_BANK_NUMBER": "bank_account", "US_DRIVER_LICENSE": "driver_license", "US_ITIN": "tax_number",
    "US_PASSPORT": "passport", "UK_NHS": "health_number", "UK_NINO": "social_insurance", "CRYPTO": "crypto_wallet",
    "MEDICAL_LICENSE": "medical_license", "PERSON": "person", "LOCATION": "location",
}  # fmt: skip
"""Presidio's entities that are personal data here, and what we call them. Dates, URLs and organisations are not."""
_RECOGNISERS = (
    "PhoneRecognizer", "CreditCardRecognizer", "IbanRecognizer", "IpRecognizer", "MacAddressRecognizer", "UsSsnRecognizer",
    "UsBankRecognizer", "UsLicenseRecognizer", "UsItinRecognizer", "UsPassportRecognizer", "NhsRecognizer", "UkNinoRecognizer",
    "CryptoRecognizer", "MedicalLicenseRecognizer",
)  # fmt: skip
_PIECE = 50_000
_NEVER_INSIDE = '"\\\n{}<>'
"""Signs that end a name: a span over them would break JSON, or swallow a token."""


def personal(texts: Sequence[str], settings: CurateSettings) -> tuple[list[str], dict[str, int]]:
    """`texts` of one example with tokens for personal data, and how many of each kind; with Presidio where the settings say so.

    SettingsError where they do and it is not installed.
    """
    found = find_all(texts)
    if settings.presidio:
        found = joined(texts, found, find(texts))
    return replaced(texts, found)


def find(texts: Sequence[str], least_score: float = LEAST_SCORE) -> list[list[Finding]]:
    """What Presidio finds in each of `texts` with at least `least_score`, in order, without overlap, the surest first."""
    return [list(_find(text, least_score)) for text in texts]


def described() -> str:
    """Presidio's version and the language model that it runs with, for a manifest."""
    from importlib.metadata import version

    return f"presidio-analyzer {version('presidio-analyzer')}, {_analyzer().model or 'no language model'}"


@dataclass(frozen=True, slots=True)
class _Analyzer:
    engine: Any
    model: str


@lru_cache(maxsize=4096)
def _find(text: str, least_score: float) -> tuple[Finding, ...]:
    """Remembered, for a system prompt comes back with every example, and so does each literal of a tool's definition.

    The last 4,096 texts stay in memory until the process ends: captured words, which no erasure takes out of a process that runs.
    """
    engine = _analyzer().engine
    results = [
        (-result.score, start + result.start, start + result.end, KINDS[result.entity_type])
        for start, piece in _pieces(text)
        for result in engine.analyze(piece, language="en", score_threshold=least_score)
        if result.entity_type in KINDS
    ]
    found = [_finding(text, start, end, kind) for _, start, end, kind in sorted(results)]
    (free,) = joined([text], [[]], [[one for one in found if one is not None]])
    return tuple(free)


def _pieces(text: str) -> list[tuple[int, str]]:
    """`text` in pieces that spaCy takes, cut at white space where there is some."""
    pieces, start = [], 0
    while len(text) - start > _PIECE:
        end = start + _PIECE
        cut = max(text.rfind("\n", start, end), text.rfind(" ", start, end))
        end = cut + 1 if cut > start else end
        pieces.append((start, text[start:end]))
        start = end
    return [*pieces, (start, text[start:])]


def _finding(text: str, start: int, end: int, kind: str) -> Finding | None:
    """The span up to the first sign that no datum holds; None when nothing is left."""
    cut = min((place for place in (text.find(sign, start, end) for sign in _NEVER_INSIDE) if place >= 0), default=end)
    said = text[start:cut].rstrip()
    if not any(letter.isalnum() for letter in said):
        return None
    return Finding(start, start + len(said), kind, _value(said, kind))


def _value(said: str, kind: str) -> str:
    """What equals it in another spelling, as our own patterns say it."""
    if kind in (PHONE, CARD, SSN):
        return "".join(letter for letter in said if letter.isdecimal())
    if kind == IBAN:
        return said.replace(" ", "").upper()
    return " ".join(said.casefold().split())


@lru_cache(maxsize=1)  # takes seconds to build
def _analyzer() -> _Analyzer:
    try:
        import presidio_analyzer
        import spacy
    except ImportError as error:
        raise SettingsError(
            "[curate] presidio is on, but Presidio is not installed.",
            "Install it with pip install 'potstill[presidio]', or set presidio = false.",
        ) from error
    from presidio_analyzer import predefined_recognizers

    model = _installed_model(spacy.util.get_installed_models())
    nlp = spacy.load(model) if model else spacy.blank("en")
    recognisers = [getattr(predefined_recognizers, name)(supported_language="en") for name in _RECOGNISERS]
    recognisers.append(_email_recogniser())
    if model:
        recognisers.append(predefined_recognizers.SpacyRecognizer(supported_language="en"))
    registry = presidio_analyzer.RecognizerRegistry(recognizers=recognisers, supported_languages=["en"])
    engine = presidio_analyzer.AnalyzerEngine(registry=registry, nlp_engine=_nlp_engine(nlp), supported_languages=["en"])
    return _Analyzer(engine, f"{model} {nlp.meta['version']}" if model else "")


def _installed_model(names: Sequence[str]) -> str:
    """The largest English model among those installed; '' without one."""
    order = {"lg": 0, "md": 1, "sm": 2}
    english = [name for name in names if name.startswith("en_core_web_") and name[-2:] in order]
    return min(english, key=lambda name: order[name[-2:]], default="")


def _nlp_engine(nlp: Any) -> Any:
    """Presidio's engine around a spaCy pipeline that is loaded already, else it would download one."""
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    class Loaded(SpacyNlpEngine):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(models=[{"lang_code": "en", "model_name": "loaded"}])
            self.nlp = {"en": nlp}

        def process_text(self, text: str, language: str) -> Any:
            doc = nlp(text)
            for token in doc:  # words beside a number speak for it by their lemma, which a blank pipeline does not know
                token.lemma_ = token.lemma_ or token.lower_
            return self._doc_to_nlp_artifact(doc, language)

    return Loaded()


def _email_recogniser() -> Any:
    """Presidio's recogniser of addresses; its own asks the network for the list of public suffixes, this one its own copy."""
    from presidio_analyzer.predefined_recognizers import EmailRecognizer
    from tldextract import TLDExtract

    extract = TLDExtract(cache_dir=None, suffix_list_urls=(), fallback_to_snapshot=True)

    class Offline(EmailRecognizer):  # type: ignore[misc]
        def validate_result(self, pattern_text: str) -> bool:
            return bool(extract(pattern_text).fqdn)

    return Offline(supported_language="en", name="EmailRecognizer")
