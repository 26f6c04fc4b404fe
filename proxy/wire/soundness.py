"""Which heads must not be served though the parser took them. Each head is looked at once, however often it comes."""

from __future__ import annotations

from proxy.wire.call import Head
from proxy.wire.limits import Problem


def length_of(length: bytes | None) -> int:
    """A Content-Length, which the parser has found to be digits; Python takes no thousands of them, not even zeros."""
    return int(length.lstrip(b"0") or b"0") if length is not None else 0


def malformed(why: str) -> Problem:
    """What is told to somebody who sent no request at all, or one that two servers might read in two ways."""
    return Problem(400, "bad_request", f"The request is no HTTP that is served here: {why}.", "Mend the client.", True)


def problem_of(head: Head) -> Problem | None:
    """What makes a well-parsed head one that must not be served."""
    if head.is_sound:
        return None
    problem = _find_problem(head)
    if problem is None:
        head.is_sound = True
    return problem


def _find_problem(head: Head) -> Problem | None:
    if head.version not in ("1.1", "1.0"):
        return malformed(f"HTTP/{head.version}")
    hosts = head.headers.getall("host", [])
    if len(hosts) > 1 or (not hosts and head.version == "1.1"):
        return malformed(f"it has {len(hosts)} Host headers")
    coding = head.headers.get("transfer-encoding")
    if coding is not None and head.version == "1.0":
        return malformed("HTTP/1.0 knows no transfer encoding")
    if coding is not None and coding.strip().lower() != "chunked":
        return malformed("its transfer encoding is not chunked alone")
    expected = head.headers.get("expect")
    if expected is not None and expected.strip().lower() != "100-continue":
        return Problem(417, "bad_expectation", "The only expectation that is met is 100-continue.", "Leave Expect out.", True)
    return None
