"""instructor: typed answers, whole and in part, from chat completions."""

from __future__ import annotations

import instructor
import openai
from pydantic import BaseModel
from telling import ADDRESS, FEW, QUESTION, headers, tell, tell_error

CLIENT = "instructor"


class Place(BaseModel):
    """A place on earth."""

    city: str
    people: int


def model(scenario: str) -> instructor.Instructor:
    """OpenAI's client, patched, under the headers of `scenario`."""
    sdk = openai.OpenAI(base_url=f"{ADDRESS}/v1", api_key="sk-test", max_retries=0, default_headers=headers(CLIENT, scenario))
    return instructor.from_openai(sdk)


ask = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": QUESTION}], "max_retries": 0}

whole = model("chat").chat.completions.create(**ask, response_model=None)
tell(CLIENT, "chat", text=whole.choices[0].message.content, tokens=whole.usage.total_tokens)

parts = list(model("stream").chat.completions.create_partial(**ask, response_model=Place))
tell(CLIENT, "stream", pieces=len(parts), found=parts[-1].model_dump())

place = model("tools").chat.completions.create(**ask, response_model=Place)
tell(CLIENT, "tools", found=place.model_dump())

for scenario in ("error", "refusal"):
    try:
        model(scenario).chat.completions.create(**ask, response_model=Place)
    except Exception as error:
        tell_error(CLIENT, scenario, error)

stream = model("cancel").chat.completions.create(**ask, response_model=None, stream=True)
got = []
for piece in stream:
    got.append(piece.choices[0].delta.content or "")
    if len(got) > FEW:
        break
stream.close()
tell(CLIENT, "cancel", text="".join(got))
