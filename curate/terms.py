"""Under which terms a teacher's answers came, as far as its name tells: allowed, restricted, forbidden or unknown for training.

This is a reminder and not legal advice. What stands here is a short reading of public terms, as reports of them had it in
November 2026; terms change, contracts differ, and only the team knows its own. Its word, `teacher_terms` in section [curate],
goes before everything here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from curate.examples import ANSWER, DEMONSTRATION, EDIT
from curate.settings import TERMS_VERDICTS

ALLOWED, RESTRICTED, FORBIDDEN, UNKNOWN = TERMS_VERDICTS
TERMS_TAG = "terms"
"""Tag of an exchange that says under which terms its answer came."""
READ = "2026-11"
"""When the table below was written."""
DROPPED = "terms"
"""The reason of rows that go for their terms."""
_FORCED = "forced: "
_IMPORTED_MODEL = "import:"
_COMPETING = "outputs must not be used to develop models that compete with the provider's"


@dataclass(frozen=True, slots=True)
class Terms:
    """Whose terms hold, what they say about training (a verdict), and why."""

    name: str
    verdict: str
    why: str

    @property
    def words(self) -> str:
        """As a row of a dataset carries it: `restricted: OpenAI`."""
        return f"{self.verdict}: {self.name}"


@dataclass(frozen=True, slots=True)
class KnownTerms:
    """What is known of the models that `models` (with *) name; the first entry that matches counts."""

    name: str
    models: tuple[str, ...]
    upstreams: tuple[str, ...]
    verdict: str
    why: str
    url: str


def _hosted(name: str, models: tuple[str, ...], upstreams: tuple[str, ...], url: str) -> KnownTerms:
    return KnownTerms(name, models, upstreams, RESTRICTED, _COMPETING, url)


def _open(name: str, models: tuple[str, ...], licence: str, url: str) -> KnownTerms:
    return KnownTerms(name, models, (), ALLOWED, f"open weights under {licence}", url)


KNOWN: tuple[KnownTerms, ...] = (
    _open("gpt-oss", ("gpt-oss*",), "Apache-2.0", "https://huggingface.co/openai/gpt-oss-120b"),
    _hosted(
        "OpenAI",
        ("gpt-*", "chatgpt-*", "codex-*", "computer-use-*", "o1*", "o3*", "o4-*", "babbage-*", "davinci-*", "text-davinci-*"),
        ("openai", "azure*"),
        "https://openai.com/policies/services-agreement/",
    ),
    _hosted("Anthropic", ("claude*",), ("anthropic",), "https://www.anthropic.com/legal/commercial-terms"),
    KnownTerms(
        "Gemma", ("gemma*",), (), RESTRICTED,
        "open weights under Gemma's own terms, which hold for models trained on its outputs too", "https://ai.google.dev/gemma/terms",
    ),
    _hosted("Google", ("gemini*",), ("gemini", "google", "vertex*"), "https://ai.google.dev/gemini-api/terms"),
    _hosted("xAI", ("grok*",), ("xai",), "https://x.ai/legal/terms-of-service-enterprise"),
    _hosted("Cohere", ("command*", "c4ai-*"), ("cohere",), "https://cohere.com/terms-of-use"),
    _hosted("Amazon Nova", ("nova-*", "amazon.nova*"), (), "https://aws.amazon.com/service-terms/"),
    _open(
        "Mistral, open weights", ("open-mi*tral-*", "mistral-7b*", "mistral-nemo*", "mixtral-8x*"), "Apache-2.0",
        "https://mistral.ai/news/mixtral-of-experts",
    ),
    _hosted("Mistral", ("mistral*", "codestral*", "ministral*", "magistral*", "pixtral*"), ("mistral",), "https://mistral.ai/terms"),
    KnownTerms(
        "Llama", ("llama-3.[1-9]*", "llama3.[1-9]*", "meta-llama-3.[1-9]*", "llama-4*", "llama4*"), (), ALLOWED,
        "Llama's licence allows it; a model that is passed on must begin its name with Llama and say Built with Llama",
        "https://www.llama.com/llama3_1/license/",
    ),
    KnownTerms(
        "Llama", ("llama*", "meta-llama*", "codellama*"), (), RESTRICTED,
        "the licences before Llama 3.1 forbid improving other models with its outputs", "https://www.llama.com/llama3/license/",
    ),
    _open("DeepSeek", ("deepseek*",), "MIT, and the terms of its platform say the same", "https://github.com/deepseek-ai/DeepSeek-R1"),
    KnownTerms(
        "Qwen", ("qwen*", "qwq*"), (), UNKNOWN, "most sizes are Apache-2.0, some have a licence of their own",
        "https://huggingface.co/Qwen",
    ),
    _open("Phi", ("phi-*", "phi3*", "phi4*"), "MIT", "https://huggingface.co/microsoft/phi-4"),
    _open("OLMo", ("olmo*",), "Apache-2.0", "https://huggingface.co/allenai"),
)  # fmt: skip
"""The first entry that matches counts, and the model before the upstream."""

_OPEN_LICENCES = (
    "apache-2.0",
    "apache 2.0",
    "mit",
    "cc0",
    "cc0-1.0",
    "cc-by-4.0",
    "cc by 4.0",
    "cc-by-3.0",
    "odc-by",
    "public domain",
)
_PERSON = Terms("a person", ALLOWED, "a person wrote the target")
_NOBODY = Terms("unknown teacher", UNKNOWN, "the exchange does not say which model answered")


def terms_of(
    teacher_model: str,
    upstream: str = "",
    tags: Mapping[str, str] | None = None,
    teacher_terms: Mapping[str, str] | None = None,
    target_source: str = ANSWER,
) -> Terms:
    """The terms of a target that `teacher_model` gave through `upstream`. Pure.

    A target that a person wrote (an edit, or a demonstration that no import brought) is theirs. Then counts what the team says
    (`teacher_terms`, by model name with *; the first that matches), the tag `terms` of an imported exchange, then what is known
    here. The tag of any other exchange came with a request and can only make things stricter.
    """
    model = _plain(teacher_model)
    is_import = teacher_model.startswith(_IMPORTED_MODEL)
    if target_source == EDIT or (target_source == DEMONSTRATION and not is_import):
        return _PERSON
    for pattern, told in (teacher_terms or {}).items():
        if fnmatchcase(teacher_model.casefold(), pattern.casefold()) or fnmatchcase(model, pattern.casefold()):
            return read_terms(told, "the team's own word in [curate] teacher_terms")
    tagged = (tags or {}).get(TERMS_TAG, "").strip()[:200]
    if is_import:
        return read_terms(tagged, "as the import said") if tagged else Terms("import", UNKNOWN, "the import did not say")
    known = _known(model, upstream.casefold())
    said = read_terms(tagged, "as a tag of the request said")
    return said if said.verdict in (RESTRICTED, FORBIDDEN) and known.verdict != FORBIDDEN else known


def read_terms(told: str, why: str) -> Terms:
    """`allowed: contract 2026-03` as terms; a licence that is known to be open is allowed, any other text is unknown."""
    verdict, _, name = (part.strip() for part in told.partition(":"))
    if verdict.casefold() in TERMS_VERDICTS:
        return Terms(name or "no name given", verdict.casefold(), why)
    return Terms(told.strip(), ALLOWED if told.strip().casefold() in _OPEN_LICENCES else UNKNOWN, why)


def goes(terms: Terms, policy: str) -> bool:
    """Whether a row under these terms is dropped: always what is forbidden; what is restricted where `policy` is drop."""
    return terms.verdict == FORBIDDEN or (terms.verdict == RESTRICTED and policy == "drop")


def row_terms(terms: Terms, policy: str, forced: str = "") -> str | None:
    """What the row says of its terms; None when it goes. `forced` is the reason for which rows stay that would go."""
    if not goes(terms, policy):
        return terms.words
    return f"{_FORCED}{' '.join(forced.split())} ({terms.words})" if forced.strip() else None


def figures(of_rows: Iterable[tuple[Terms, str]], policy: str, forced: str = "") -> dict[str, Any]:
    """What the manifest says of the kept rows: (terms, what `row_terms` gave). The same for the same rows: no times, no names.

    Who forced it and when belongs beside the version, where no hash is made of it.
    """
    rows = list(of_rows)
    verdicts = Counter(terms.verdict for terms, _ in rows)
    by_name = Counter(terms.words for terms, _ in rows)
    why = {terms.words: terms.why for terms, _ in rows}
    found: dict[str, Any] = {
        "policy": policy,
        "read": READ,
        "verdicts": {verdict: verdicts[verdict] for verdict in TERMS_VERDICTS if verdicts[verdict]},
        "by_terms": {words: {"rows": by_name[words], "why": why[words]} for words in sorted(by_name)},
    }
    stays = sum(told.startswith(_FORCED) for _, told in rows)
    if stays:
        found["forced"] = {"rows": stays, "reason": " ".join(forced.split())}
    return found


def warnings(found: Mapping[str, Any], model: str = "") -> list[str]:
    """Warnings for the manifest, of what `figures` gave; `model` is one whose terms are not known, to show what to write."""
    told = []
    verdicts = found["verdicts"]
    if verdicts.get(RESTRICTED):
        told.append(
            f"{verdicts[RESTRICTED]} rows came under terms that restrict training; see card.md, and ask who knows the contract."
        )
    if verdicts.get(UNKNOWN):
        line = f'{json.dumps(model[:100] or "MODEL", ensure_ascii=False)} = "allowed: why"'
        told.append(
            f"The terms of {verdicts[UNKNOWN]} rows are not known; say them in [curate.teacher_terms] of potstill.toml: {line}"
        )
    if "forced" in found:
        told.append(
            f"{found['forced']['rows']} rows that their terms would leave out were forced in: {found['forced']['reason']}"
        )
    return told


def card_text(found: Mapping[str, Any]) -> str:
    """The part of the data card about terms, of what `figures` gave, as Markdown."""
    rows = "".join(f"| {_cell(words)} | {each['rows']} | {_cell(each['why'])} |\n" for words, each in found["by_terms"].items())
    forced = ""
    if "forced" in found:
        forced = f"\n{found['forced']['rows']} of them were forced in: {_cell(found['forced']['reason'])}\n"
    return f"""## Terms

A short reading of public terms as of {found["read"]}, and no legal advice: the contract with the provider decides.

| terms | rows | why |
|---|---|---|
{rows}{forced}"""


def _known(model: str, upstream: str) -> Terms:
    for each in KNOWN:
        if any(fnmatchcase(model, pattern) for pattern in each.models):
            return Terms(each.name, each.verdict, f"{each.why} ({each.url})")
    for each in KNOWN if not model else ():
        if any(fnmatchcase(upstream, pattern) for pattern in each.upstreams):
            return Terms(each.name, each.verdict, f"{each.why} ({each.url})")
    return Terms(model[:100], UNKNOWN, "nothing is known of this model") if model else _NOBODY


def _plain(model: str) -> str:
    """`model` in small letters, without provider and region before it; a model tuned at its provider by the name of its base."""
    name = model.casefold().rpartition("/")[2].removeprefix("ft:")
    for start in ("us.", "eu.", "apac.", "global.", "anthropic.", "meta.", "mistral.", "cohere."):
        name = name.removeprefix(start)
    return name


def _cell(text: str) -> str:
    """`text` on one line of a table, without markup."""
    flat = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`")
    return flat.replace("<", "&lt;").replace("[", "\\[")
