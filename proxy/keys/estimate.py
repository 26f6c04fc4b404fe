"""What a request may use at most, told before anybody has answered it: tokens, and what they would cost."""

from __future__ import annotations

import msgspec

from capture.estimate import BYTES_PER_TOKEN
from capture.pricing import PriceTable


class _Fields(msgspec.Struct):
    max_tokens: object = None
    max_completion_tokens: object = None
    max_output_tokens: object = None
    n: object = None


_decode = msgspec.json.Decoder(_Fields).decode
_MOST = 10**7


def estimate_tokens(path: str, body: bytes, assumed_out: int) -> tuple[int, int]:
    """Tokens of the prompt, from the size of `body`, and of the answer: as many as the request allows, else `assumed_out`."""
    if not body:
        return 0, 0
    tokens_in = -(-len(body) // BYTES_PER_TOKEN)
    if path.endswith("/embeddings"):
        return tokens_in, 0
    try:
        fields = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return tokens_in, assumed_out
    limits = (fields.max_completion_tokens, fields.max_tokens, fields.max_output_tokens)
    found = [each for each in map(_count, limits) if each is not None]
    return tokens_in, (found[0] if found else assumed_out) * max(1, _count(fields.n) or 1)


def estimate_microusd(
    prices: PriceTable | None, model: str, provider: str, tokens_in: int, tokens_out: int, assumed_microusd: int
) -> int:
    """The price of so many tokens; `assumed_microusd` where the model has no known price."""
    if not tokens_in and not tokens_out:
        return 0
    found = prices.cost_microusd(model, tokens_in, tokens_out, provider=provider) if prices is not None and model else None
    return assumed_microusd if found is None else found


def _count(value: object) -> int | None:
    return min(value, _MOST) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
