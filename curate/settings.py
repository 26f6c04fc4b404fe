"""What a team decides about its datasets: section [curate]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from math import isfinite

from capture.filters import FilterError, parse_filter

PERSONAL_DATA_POLICIES = ("pseudonymise", "drop", "keep")
ENGINES = ("local", "daft", "ray")
CONTRADICTION_POLICIES = ("majority", "newest", "judge", "person", "drop")
SUSPECT_POLICIES = ("review", "drop", "off")
EVAL_SELECTIONS = ("random", "hard")
TERMS_POLICIES = ("warn", "drop")
TERMS_VERDICTS = ("allowed", "restricted", "forbidden", "unknown")
LANGUAGES = frozenset({
    "ace", "af", "am", "an", "ar", "ary", "arz", "as", "az", "ba", "bcl", "be", "bg", "bn", "br", "bs", "ca", "crh", "cs",
    "cy", "da", "de", "dz", "el", "en", "eo", "es", "et", "eu", "ext", "fa", "fi", "fo", "fr", "fuv", "fy", "ga", "gcf",
    "gcr", "gd", "gl", "gom", "grc", "gu", "gug", "guw", "ha", "hbo", "he", "hi", "hr", "ht", "hu", "hy", "id", "ig", "is",
    "it", "ja", "jv", "ka", "kab", "kik", "kk", "km", "kn", "ko", "ku", "ky", "la", "lb", "lg", "lij", "ln", "lo", "lt",
    "ltg", "lv", "mg", "mk", "ml", "mn", "mr", "ms", "mt", "my", "ne", "nl", "nn", "no", "nso", "oc", "om", "or", "pa", "pcm",
    "pl", "ps", "pt", "qu", "ro", "ru", "rw", "sa", "sdh", "se", "si", "sk", "sl", "sn", "so", "sq", "sr", "st", "sv", "sw",
    "ta", "te", "tg", "th", "tk", "tl", "tr", "tt", "ug", "uk", "ur", "uz", "uzs", "vec", "vi", "vo", "wa", "wuu", "xh", "yo",
    "yue", "zh", "zu", "zxx",
})  # fmt: skip
"""Codes of the languages that py3langid tells apart."""
_CHOICES = {
    "personal_data": PERSONAL_DATA_POLICIES, "engine": ENGINES, "contradictions": CONTRADICTION_POLICIES,
    "poisoned": SUSPECT_POLICIES, "wrong_answers": SUSPECT_POLICIES, "eval_selection": EVAL_SELECTIONS, "terms": TERMS_POLICIES,
}  # fmt: skip
_ABOVE_0_TO_1 = (
    "val_share", "test_share", "near_threshold", "split_threshold", "overlap_threshold", "contradiction_threshold", "ngram_share",
    "per_unit_cap_share",
)  # fmt: skip
_LIMITS = ("per_session_cap", "max_examples", "max_input_tokens", "max_input_characters", "max_target_characters")


class WrongFilterError(FilterError, ValueError):
    """The filter cannot be understood: a wrong value for who reads a section, an error like any other for who typed --filter."""


@dataclass(frozen=True, slots=True)
class CurateSettings:
    """Section [curate]. The manifest of a dataset version repeats it; the same exchanges and settings give the same version."""

    filter: str = ""
    """Further words of the filter language that an exchange must match, such as `since:30d status:200`."""
    val_share: float = 0.1
    """Part of the examples that steers a run while it trains."""
    test_share: float = 0.1
    """Part of the examples that only the final evaluation sees."""
    near_threshold: float = 0.6
    """Jaccard similarity of character 4-grams from which two inputs are near duplicates."""
    split_threshold: float = 0.5
    """Similarity from which two examples must share a split."""
    overlap_threshold: float = 0.45
    """Similarity from which a train and an eval example overlap: the train example leaves, the certificate counts such pairs."""
    contradiction_threshold: float = 0.8
    """Similarity from which near duplicates with different targets contradict each other."""
    ngram_share: float = 0.3
    """Most word 8-grams that a train and an eval example may share, as part of the shorter one."""
    contradictions: str = "majority"
    """Which of several targets of one input stays: majority, newest (teacher), judge, person (all wait for a review) or drop."""
    per_unit_cap_share: float = 0.01
    """Most of the examples that one unit (a user, a conversation) may give, once there are 1 / this many units; with fewer, twice
    a fair share. 1 switches it off."""
    per_session_cap: int = 0
    """Most exchanges of one session (a conversation) that become examples; 0: all."""
    max_examples: int = 0
    """Examples of a version; more are sampled: by label or tool, by length, then for variety. 0: all."""
    eval_selection: str = "random"
    """Which fresh groups fill val and test: random (by the hash of their content), or hard: rare, disputed, low-scored ones."""
    eval_after: str = ""
    """A date such as 2026-11-01: what came later is eval, and what clusters with it leaves train. '' splits by content alone."""
    score_name: str = ""
    """Name of the feedback that says how good an answer is; better answers are sampled first, the worst go to eval when hard."""
    minimum_score: float = 0.0
    """Answers with a lower score are dropped as low_score; those without one stay."""
    mix_in: str = ""
    """Other tasks, with commas between, whose newest examples are mixed into train so that general skill is not forgotten."""
    mix_in_share: float = 0.1
    """Part of the train split that is mixed in."""
    languages: str = ""
    """Languages that an input may be in, such as `en,de`, of LANGUAGES; others are dropped as wrong_language. '': all."""
    fix_encoding: bool = True
    """Mends text that was decoded wrongly (`donâ€™t`); never in JSON, code or arguments of tools."""
    with_tools: bool = True
    """Whether conversations with tools become examples."""
    poisoned: str = "drop"
    """What happens to targets that a rare phrase seems to dictate: drop, review or off."""
    wrong_answers: str = "review"
    """What happens to labels that the rest of the task says are wrong (found by out-of-fold prediction): review, drop or off."""
    terms: str = "warn"
    """What happens to answers of teachers whose terms restrict training: warn (they are kept and named) or drop."""
    teacher_terms: Mapping[str, str] = field(default_factory=dict)
    """Terms by model name (with *), such as {"gpt-*"="allowed: contract 2026-03"}; they go before those that Potstill knows."""
    presidio: bool = False
    """Looks for personal data with Presidio too (pip install 'potstill[presidio]')."""
    engine: str = "local"
    """Where near duplicates are looked for: local (this process), daft (all cores) or ray (a cluster)."""
    ray_address: str = ""
    """Address of the Ray cluster; '' starts one here."""
    session_join_share: float = 0.01
    """Sessions keep their examples in one split as long as the group stays below this part of the task (at least 4 examples)."""
    max_input_tokens: int = 8_192
    """Inputs that the provider counted longer are dropped as over_long; 0: no limit."""
    max_input_characters: int = 32_000
    """Inputs with more characters are dropped as over_long; 0: no limit."""
    max_target_characters: int = 8_000
    """Targets with more characters are dropped as over_long; 0: no limit."""
    personal_data: str = "pseudonymise"
    """What happens to email, phone, card, IBAN, IP and MAC address, US social security number and date of birth: pseudonymise
    (<EMAIL_1> in prompt and target), drop or keep."""
    minimum_examples: int = 30
    """A dataset version needs at least this many examples."""
    salt: str = "potstill"
    """Decides which fresh groups become eval. Changing it moves nothing that already has a split."""

    def __post_init__(self) -> None:
        try:
            parse_filter(self.filter)
        except FilterError as error:
            raise WrongFilterError(f"filter is {self.filter!r}: {error.what}", error.next_step.rstrip(".")) from error
        self._check_numbers()
        for name, known in _CHOICES.items():
            self._require(name, f"one of {', '.join(known)}", getattr(self, name) in known)
        if self.eval_after:
            self._require("eval_after", "a date such as 2026-11-01", _is_date(self.eval_after))
        if unknown := [code for code in language_codes(self.languages) if code not in LANGUAGES]:
            raise ValueError(f"languages names {unknown[0]!r}; known are codes such as ar, de, en, es, fr, ja, pt and zh")
        for told in self.teacher_terms.values():
            if told.partition(":")[0].strip().casefold() not in TERMS_VERDICTS:
                raise ValueError(f"teacher_terms has {told!r}, which does not begin with one of {', '.join(TERMS_VERDICTS)}")

    def _check_numbers(self) -> None:
        """NaN is in no range, so it is refused wherever one is checked."""
        for name in _ABOVE_0_TO_1:
            self._require(name, "above 0 and at most 1", 0 < getattr(self, name) <= 1)
        if not self.val_share + self.test_share <= 0.9:
            raise ValueError(
                f"val_share and test_share are {self.val_share} and {self.test_share}, and together at most 0.9 is taken"
            )
        in_order = ("overlap_threshold", "split_threshold", "near_threshold", "contradiction_threshold")
        for low, high in pairwise(in_order):
            what = f"at most {high}, which is {getattr(self, high)}"
            self._require(low, what, getattr(self, low) <= getattr(self, high))
        self._require("session_join_share", "between 0 and 1", 0 <= self.session_join_share <= 1)
        self._require("mix_in_share", "between 0 and 0.5", 0 <= self.mix_in_share <= 0.5)
        self._require("minimum_score", "a finite number", isfinite(self.minimum_score))
        for name in _LIMITS:
            self._require(name, "0 (no limit) or more", getattr(self, name) >= 0)
        self._require("minimum_examples", "at least 3: one for each split", self.minimum_examples >= 3)

    def _require(self, name: str, allowed: str, is_fine: bool) -> None:
        if not is_fine:
            raise ValueError(f"{name} is {getattr(self, name)!r} and must be {allowed}")


def language_codes(languages: str) -> list[str]:
    """The codes in `languages` as the setting of that name lists them, in small letters."""
    return [code.strip().casefold() for code in languages.split(",") if code.strip()]


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
