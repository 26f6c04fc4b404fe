"""The README's loop by hand, on real parts: one vLLM server is the teacher, another serves the student.

OPENAI_BASE_URL is the relay. One test, in the order a team would do it; it takes
some minutes, most of them vLLM's imports and training on a CPU.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from potstill.processes import Child, answers, free_ports
from proxy.tickets import make_tickets

ROOT = Path(__file__).resolve().parent.parent
BUILD_TEACHER = """
import sys
from pathlib import Path
from potstill.toy import toy_conversations
from proxy.tickets import make_tickets
from train.toy_base import build_toy_base
known = [(t.system_prompt, t.user_prompt, t.gold) for t in make_tickets(5, 2400, "triage")]
build_toy_base(Path(sys.argv[1]), known + toy_conversations()[:400], steps=250)
"""


def python(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
        cwd=ROOT,
    )


def finish(process: subprocess.Popen[str]) -> str:
    told, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, told
    return told


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A toy that knows triage (the teacher) and a toy that does not (the base model), made side by side."""
    folder = tmp_path_factory.mktemp("bases")
    with ExitStack() as stack:
        teacher = stack.enter_context(python("-c", BUILD_TEACHER, str(folder / "teacher"), environment={"OMP_NUM_THREADS": "1"}))
        base = stack.enter_context(python("-m", "potstill", "toy-base", str(folder / "base"), "--steps", "300"))
        stack.callback(base.kill)
        stack.callback(teacher.kill)
        finish(teacher)
        finish(base)
        yield folder / "teacher", folder / "base"


class House:
    """A folder with a potstill.toml, and the commands a person would type there."""

    def __init__(self, folder: Path, toml: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.config = folder / "potstill.toml"
        self.config.write_text(toml, "utf-8")
        self.environment = {"OPENAI_API_KEY": "sk-any", "ANTHROPIC_API_KEY": "sk-any"}

    def start(self, stack: ExitStack, *arguments: str) -> Child:
        child = Child(
            arguments[0], ["--config", str(self.config), *arguments], self.folder / f"{arguments[0]}.txt", self.environment
        )
        stack.callback(child.stop)
        return child

    def potstill(self, *arguments: str) -> Any:
        finished = subprocess.run(
            [sys.executable, "-m", "potstill", "--config", str(self.config), *arguments, "--json"],
            capture_output=True,
            text=True,
            env={**os.environ, **self.environment},
            check=False,
        )
        assert finished.returncode == 0, f"{arguments}: {finished.stdout}\n{finished.stderr}"
        return json.loads(finished.stdout.strip().splitlines()[-1])

    def engine_state(self) -> str:
        return str((self.potstill("engine", "status") or {"state": "never"})["state"])


def ask_all(relay: str, tickets: list[Any], users: int, *, concurrency: int = 8) -> list[tuple[str, str, str]]:
    """(user, variant, upstream) of each answer; the SDK finds the relay by OPENAI_BASE_URL alone."""
    import openai

    async def ask() -> list[tuple[str, str, str]]:
        async with openai.AsyncOpenAI(max_retries=0, timeout=120) as client:
            assert str(client.base_url).startswith(relay)
            turn = asyncio.Semaphore(concurrency)

            async def one(place: int, ticket: Any) -> tuple[str, str, str]:
                async with turn:
                    user = f"user-{place % users}"
                    answer = await client.chat.completions.with_raw_response.create(
                        model="base",
                        messages=[
                            {"role": "system", "content": ticket.system_prompt},
                            {"role": "user", "content": ticket.user_prompt},
                        ],
                        temperature=0,
                        max_tokens=32,
                        extra_headers={"x-potstill-task": "triage", "x-potstill-user": user},
                    )
                    assert answer.parse().choices[0].message.content
                    return user, answer.headers.get("x-potstill-variant", ""), answer.headers["x-potstill-upstream"]

            return await asyncio.gather(*(one(place, ticket) for place, ticket in enumerate(tickets)))

    return asyncio.run(ask())


@pytest.mark.timeout(1500)
def test_the_loop_by_hand_with_a_vllm_server_as_the_teacher(
    bases: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher_base, student_base = bases
    teacher_port, relay_port, admin_port, engine_port = free_ports(4)
    relay = f"http://127.0.0.1:{relay_port}"
    teacher_house = House(
        tmp_path / "teacher",
        f'[engine]\nport = {teacher_port}\nbase_model = "{teacher_base}"\nmax_model_len = 512\ndtype = "float32"\n',
    )
    house = House(
        tmp_path / "house",
        f"""
[relay]
port = {relay_port}
admin_port = {admin_port}
[upstreams.teacher]
url = "http://127.0.0.1:{teacher_port}"
protocol = "openai"
[train]
relay_url = "{relay}"
[engine]
port = {engine_port}
base_model = "{student_base}"
max_model_len = 512
dtype = "float32"
""",
    )
    monkeypatch.setenv("OPENAI_BASE_URL", f"{relay}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-any")
    with ExitStack() as stack:
        teacher = teacher_house.start(stack, "engine")
        up = house.start(stack, "up")
        up.wait_until(lambda: answers(f"http://127.0.0.1:{admin_port}/health/ready"), within_s=60)
        teacher.wait_until(lambda: answers(f"http://127.0.0.1:{teacher_port}/health"), within_s=600)
        engine = house.start(stack, "engine")

        seen = ask_all(relay, make_tickets(100, 420, "triage"), users=60)
        assert {(variant, upstream) for _, variant, upstream in seen} == {("", "teacher")}

        version = house.potstill("dataset", "build", "triage")
        bill = version["manifest"]["bill"]
        assert bill["selected"] == 420 == bill["kept"] + sum(bill["dropped"].values())

        recipe = ("--recipe", "sft-lora-toy", "--set", "max_steps=160", "--base-model", str(student_base))
        trained = house.potstill("train", "triage", *recipe)
        scores = {evaluation["variant"]: evaluation["value"] for evaluation in trained["evaluations"]}
        assert scores["base"] <= 0.05
        assert scores["student"] >= 0.5, "most of a few hundred examples can be learnt"
        assert scores["teacher"] >= 0.95, "a greedy teacher repeats itself"
        assert scores["cheap_baseline"] is not None

        engine.wait_until(lambda: house.engine_state() == "ready", within_s=600)
        release = house.potstill("release", "triage", "--minimum-exact-match", "0.5")
        assert release["state"] == "ready"
        assert release["parity_same"] >= 0.99 * release["parity_n"]

        house.potstill("flag", "set", "triage", "--share", "50%", "--unit", "user")
        wait_for_candidate(relay, house)
        pairs = [ticket for ticket in make_tickets(101, 60, "triage") for _ in range(2)]
        seen = ask_all(relay, pairs, users=47)
        variants: dict[str, set[str]] = {}
        for user, variant, upstream in seen:
            variants.setdefault(user, set()).add(variant)
            assert (upstream == "teacher") == (variant == "baseline")
        assert all(len(one_user) == 1 for one_user in variants.values()), "a user keeps one variant"
        assert {variant for _, variant, _ in seen} == {"baseline", "candidate"}

        deadline = time.monotonic() + 10
        comparison = house.potstill("ab", "triage")
        while comparison["baseline"]["n"] + comparison["candidate"]["n"] < len(pairs) and time.monotonic() < deadline:
            comparison = house.potstill("ab", "triage")
        assert comparison["baseline"]["success"]["value"] == comparison["candidate"]["success"]["value"] == 1.0
        assert comparison["candidate"]["exact_match"]["n"] > 0, "some inputs were answered by both"
        assert comparison["share_set_bp"] == 5000
        assert comparison["sticky_violations"] == 0

        house.potstill("flag", "rollback", "triage")
        time_of_grace = time.monotonic() + 0.5
        while time.monotonic() < time_of_grace:
            ask_all(relay, make_tickets(102, 2, "triage"), users=2)
        seen = ask_all(relay, make_tickets(102, 60, "triage"), users=60)
        assert {variant for _, variant, _ in seen} == {"baseline"}
        up.stop()
        assert httpx.get(f"http://127.0.0.1:{teacher_port}/health").status_code == 200
    assert len(house.potstill("exchanges", "list", "purpose:app", "--limit", "5000")) >= 420 + 120 + 60


def wait_for_candidate(relay: str, house: House) -> None:
    """Until the relay obeys the flag: promised within 500 ms."""
    deadline = time.monotonic() + 5
    tickets = make_tickets(103, 20, "triage")
    while time.monotonic() < deadline:
        if any(variant == "candidate" for _, variant, _ in ask_all(relay, tickets, users=20)):
            return
    raise AssertionError("no request reached the student within 5 s of the flag")
