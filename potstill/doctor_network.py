"""Doctor's look at the relay, the upstreams and the engine."""

from __future__ import annotations

import os
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from capture.loose_json import as_count, as_list, as_object
from capture.settings import Settings
from potstill.doctor_clock import judge_skew, skew_of
from potstill.findings import BAD, NOTE, OK, Finding
from proxy.admin_token import read_token
from proxy.failures import Failure
from proxy.settings import NO_KEY, RelaySettings, Upstream, read_upstreams
from proxy.upstream_keys import look_for_key
from proxy.upstream_settings import proxy_of
from serve.engine_state import FAILED, READY, read_state
from serve.settings import EngineSettings


def check_relay(settings: Settings) -> list[Finding]:
    """Whether the relay is up and can write its spools, or could be started."""
    relay = settings.section("relay", RelaySettings)
    host, admin = _addresses(relay)
    try:
        answer = httpx.get(f"{admin}/health/ready", timeout=3)
        status = as_object(httpx.get(f"{admin}/status", headers=_token_of(settings), timeout=3).json())
        return [judge_ready(f"{host}:{relay.port}", answer), *judge_workers(as_list(status.get("workers")))]
    except (httpx.HTTPError, ValueError):
        pass
    with socket.socket(socket.AF_INET6 if ":" in relay.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((relay.host, relay.port))
        except OSError as error:
            what = f"not up, and port {relay.port} cannot be had: {error.strerror}."
            return [Finding("relay", BAD, what, "End who holds it, or set [relay] port.")]
    return [Finding("relay", NOTE, f"not up; port {relay.port} is free", "Start it: potstill up")]


def ask_workers(settings: Settings) -> list[Any] | None:
    """The counters of each worker of the relay that is up; None when none is, or what answers there is not it."""
    _, admin = _addresses(settings.section("relay", RelaySettings))
    try:
        answer = httpx.get(f"{admin}/status", headers=_token_of(settings), timeout=3)
        status = answer.json()
    except (httpx.HTTPError, ValueError):
        return None
    return as_list(as_object(status).get("workers")) if answer.is_success else None


def dropped_by(workers: list[Any]) -> int:
    """How many exchanges these workers dropped since the relay started."""
    return sum(as_count(as_object(worker).get("dropped")) or 0 for worker in workers)


def _token_of(settings: Settings) -> dict[str, str]:
    """The header that the admin listener asks for; SettingsError when its token cannot be read."""
    token = read_token(settings.folder, settings.section("relay", RelaySettings).admin_token_file)
    return {"Authorization": f"Bearer {token}"} if token else {}


def _addresses(relay: RelaySettings) -> tuple[str, str]:
    """The host as it stands in an address, and the address of the admin listener."""
    host = f"[{relay.host}]" if ":" in relay.host else relay.host
    return host, f"http://{host}:{relay.admin_port}"


def judge_ready(where: str, answer: httpx.Response) -> Finding:
    """What the relay says of itself when it is asked whether it is ready; ValueError when that is no JSON."""
    said = as_object(answer.json())
    ailing = "; ".join(str(each) for each in as_list(said.get("ailing")))
    if not answer.is_success or said.get("is_ready") is not True:
        what = f"up on {where}, but not ready (status {answer.status_code}){f': {ailing}' if ailing else ''}."
        return Finding("relay", BAD, what, "See what it wrote to its terminal or log, then start it again: potstill up")
    if ailing:
        return Finding("relay", NOTE, f"up on {where} and ready, but ailing: {ailing}.", "See its log, and: potstill losses")
    return Finding("relay", OK, f"up on {where} and ready")


def judge_workers(workers: list[Any]) -> list[Finding]:
    """What the relay's own counters say: syncs that the disk refused, exchanges that were dropped since the start."""
    refused = sum(as_count(as_object(worker).get("sync_failures")) or 0 for worker in workers)
    dropped = dropped_by(workers)
    findings = []
    if refused:
        what = f"the disk refused {refused} times to make the spool durable since the relay started."
        findings.append(Finding("sync", BAD, what, "Look for disk errors (dmesg), and move [store] data_folder to a sound disk."))
    if dropped:
        what = f"the relay dropped {dropped} exchanges since it started."
        findings.append(Finding("dropped", BAD, what, "See when and why: potstill losses"))
    return findings or [Finding("sync", OK, f"{len(workers)} relay workers sync their spools and dropped nothing")]


def check_upstreams(settings: Settings) -> list[Finding]:
    """Whether each upstream answers and its key is there; the clock against the first that says what time it is."""
    findings = []
    skews: list[tuple[str, float]] = []
    for upstream in read_upstreams(settings).values():
        finding, skew_s = _upstream(upstream)
        findings.append(finding)
        if skew_s is not None:
            skews.append((upstream.root, skew_s))
    if skews:
        findings.append(judge_skew(*skews[0]))
    return findings


def _upstream(upstream: Upstream) -> tuple[Finding, float | None]:
    check = f"upstream {upstream.name}"
    if isinstance(key := look_for_key(upstream, os.environ), Failure):
        source = f"export {upstream.key_variable}=..." if upstream.key_variable else f"Write it to {upstream.key_file}"
        return Finding(check, BAD, key.what, f"{source}, or set [upstreams.{upstream.name}] key."), None
    if upstream.socket:
        return _translation(check, upstream.socket), None
    before_s = time.time()
    try:
        trusted = ssl.create_default_context(cafile=upstream.ca_file or None)
        answer = httpx.get(upstream.root, timeout=5, verify=trusted, proxy=proxy_of(upstream, os.environ) or None)
    except httpx.HTTPError as error:
        what = f"{upstream.root} cannot be reached: {type(error).__name__}: {error}"
        return Finding(check, BAD, what, f"Check the network, or [upstreams.{upstream.name}] url."), None
    skew_s = skew_of(answer.headers.get("date", ""), (before_s + time.time()) / 2)
    key = "needs no key" if upstream.key == NO_KEY else f"key from {upstream.key}"
    return Finding(check, OK, f"{upstream.root} answers ({upstream.protocol}, {key})"), skew_s


def _translation(check: str, path: str) -> Finding:
    """Whether the process that translates for an upstream takes requests."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(path)
        except OSError:
            return Finding(check, NOTE, "nothing translates for it just now; potstill up does", "Start it: potstill up")
    return Finding(check, OK, "requests for it are translated")


def check_engine(settings: Settings) -> list[Finding]:
    """Whether the engine answers, or why it does not."""
    engine = settings.section("engine", EngineSettings)
    if engine.is_external:
        from serve.engine import EngineClient

        with EngineClient(engine.address) as client:
            if client.health():
                return [Finding("engine", OK, f"{engine.address} answers")]
        return [Finding("engine", BAD, f"{engine.address} does not answer.", "Start it there, or mend [engine] url.")]
    state = read_state(settings.data_folder)
    if state is None:
        has_vllm = (Path(sys.executable).parent / "vllm").exists()
        what = "never started" if has_vllm else "never started; vLLM is not installed"
        return [Finding("engine", NOTE, what, "Start it when you have a release: potstill engine --base-model NAME")]
    if state.state == FAILED:
        return [Finding("engine", BAD, f"failed: {state.message}", f"See {settings.data_folder / 'engine' / 'output.txt'}")]
    verdict = OK if state.state == READY else NOTE
    what = f"{state.state} at {state.url} with {state.base_model}"
    return [Finding("engine", verdict, what, "" if verdict == OK else "Start it: potstill engine")]
