"""What a team decides about its datasets: section [curate]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

PERSONAL_DATA_POLICIES = ("pseudonymise", "drop", "keep")
ENGINES = ("local", "daft", "ray")
CONTRADICTION_POLICIES = ("majority", "newest", "judge", "person", "drop")
SUSPECT_POLICIES = ("review", "drop", "off")
EVAL_SELECTIONS = ("random", "hard")
TERMS_POLICIES = ("warn", "drop")
TERMS_VERDICTS = ("allowed", "restricted", "forbidden", "unknown")


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
    """Languages that an input may be in, such as `en,de`; others are dropped as wrong_language. '': all."""
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
    """Inputs with more characters are dropped as over_long."""
    max_target_characters: int = 8_000
    """Targets with more characters are dropped as over_long."""
    personal_data: str = "pseudonymise"
    """What happens to email, phone, card, IBAN, IP and MAC address, US social security number and date of birth: pseudonymise
    (<EMAIL_1> in prompt and target), drop or keep."""
    minimum_examples: int = 30
    """A dataset version needs at least this many examples."""
    salt: str = "potstill"
    """Decides which fresh groups become eval. Changing it moves nothing that already has a split."""

    def __post_init__(self) -> None:
        if self.val_share <= 0 or self.test_share <= 0 or self.val_share + self.test_share > 0.9:
            raise ValueError("val_share and test_share must be above 0 and together at most 0.9")
        for name in (
            "near_threshold", "split_threshold", "overlap_threshold", "contradiction_threshold", "ngram_share",
            "per_unit_cap_share",
        ):  # fmt: skip
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1")
        if self.overlap_threshold > self.split_threshold:
            raise ValueError("overlap_threshold must not be above split_threshold")
        if not self.split_threshold <= self.near_threshold <= self.contradiction_threshold:
            raise ValueError("split_threshold <= near_threshold <= contradiction_threshold must hold")
        if self.personal_data not in PERSONAL_DATA_POLICIES:
            raise ValueError(f"personal_data must be one of {', '.join(PERSONAL_DATA_POLICIES)}")
        for name, known in (
            ("engine", ENGINES), ("contradictions", CONTRADICTION_POLICIES), ("poisoned", SUSPECT_POLICIES),
            ("wrong_answers", SUSPECT_POLICIES), ("eval_selection", EVAL_SELECTIONS), ("terms", TERMS_POLICIES),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}")
        if self.eval_after:
            try:
                datetime.fromisoformat(self.eval_after)
            except ValueError as error:
                raise ValueError(f"eval_after must be a date such as 2026-11-01, not {self.eval_after!r}") from error
        for told in self.teacher_terms.values():
            if told.partition(":")[0].strip().casefold() not in TERMS_VERDICTS:
                raise ValueError(f"teacher_terms has {told!r}, which does not begin with one of {', '.join(TERMS_VERDICTS)}")
        if not 0 <= self.mix_in_share <= 0.5:
            raise ValueError("mix_in_share must be between 0 and 0.5")
        for name in ("per_session_cap", "max_examples"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if self.minimum_examples < 3:
            raise ValueError("minimum_examples must be at least 3: one for each split")
