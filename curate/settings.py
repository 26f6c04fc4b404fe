"""What a team decides about its datasets: section [curate]."""

from __future__ import annotations

from dataclasses import dataclass

PERSONAL_DATA_POLICIES = ("pseudonymise", "drop", "keep")


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
    """Similarity from which two examples must share a split; also the limit of the overlap certificate."""
    contradiction_threshold: float = 0.8
    """Similarity from which near duplicates with different targets contradict each other."""
    ngram_share: float = 0.3
    """Most word 8-grams that a train and an eval example may share, as part of the shorter one."""
    per_unit_cap_share: float = 0.2
    """Most of the examples that one unit (a user, a conversation) may give, once a task has ten units; 1 switches it off."""
    session_join_share: float = 0.01
    """Sessions keep their examples in one split as long as the group stays below this part of the task (at least 4 examples)."""
    max_input_tokens: int = 8_192
    """Inputs that the provider counted longer are dropped as over_long; 0: no limit."""
    max_input_characters: int = 32_000
    """Inputs with more characters are dropped as over_long."""
    max_target_characters: int = 8_000
    """Targets with more characters are dropped as over_long."""
    personal_data: str = "pseudonymise"
    """What happens to email, phone, card, IBAN and IP address: pseudonymise (<EMAIL_1> in prompt and target), drop or keep."""
    minimum_examples: int = 30
    """A dataset version needs at least this many examples."""
    salt: str = "potstill"
    """Decides which fresh groups become eval. Changing it moves nothing that already has a split."""

    def __post_init__(self) -> None:
        if self.val_share <= 0 or self.test_share <= 0 or self.val_share + self.test_share > 0.9:
            raise ValueError("val_share and test_share must be above 0 and together at most 0.9")
        for name in ("near_threshold", "split_threshold", "contradiction_threshold", "ngram_share", "per_unit_cap_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1")
        if not self.split_threshold <= self.near_threshold <= self.contradiction_threshold:
            raise ValueError("split_threshold <= near_threshold <= contradiction_threshold must hold")
        if self.personal_data not in PERSONAL_DATA_POLICIES:
            raise ValueError(f"personal_data must be one of {', '.join(PERSONAL_DATA_POLICIES)}")
        if self.minimum_examples < 3:
            raise ValueError("minimum_examples must be at least 3: one for each split")
