"""The relays that are compared, each a process of its own in front of the same upstream."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import cores, free_port, python, running, wait_for_port
from capture.database import Database, open_database
from capture.settings import load_settings

POTSTILL, PLAIN, NGINX = "Potstill with full capture", "plain aiohttp relay without capture", "nginx without capture"
_LEAST_URGENT = 19


@dataclass(frozen=True, slots=True)
class Contestant:
    """A relay that listens on `port`; its CPU time is that of `pid` and its descendants."""

    name: str
    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class House:
    """Everything that runs during the relay's benchmark."""

    upstream_port: int
    contestants: tuple[Contestant, ...]
    writer_pid: int
    database: Database


@contextmanager
def open_house(folder: Path) -> Iterator[House]:
    """Starts upstream, store writer and relays with their files under `folder`; stops them at the end.

    Relays have a core for themselves where there are two; the rest shares the other, the store writer with the lowest
    priority, so that every relay sees the same load.
    """
    load_core, relay_core = cores()
    with ExitStack() as stack:

        def start(name: str, command: list[str], port: int, core: int) -> subprocess.Popen[bytes]:
            log = folder / f"{name}.log"
            process = stack.enter_context(running(command, core, log))
            wait_for_port(process, port, log)
            return process

        upstream_port = free_port()
        start("upstream", python("benchmarks.upstream", str(upstream_port)), upstream_port, load_core)
        config = folder / "potstill.toml"
        config.write_text(f'[store]\ndata_folder = "data"\n\n[upstreams.openai]\nurl = "http://127.0.0.1:{upstream_port}/v1"\n')
        database = open_database(load_settings(config, environ={}).database_url)
        stack.callback(database.close)
        writer = stack.enter_context(
            running(python("capture.writer", "--config", str(config)), load_core, folder / "writer.log", _LEAST_URGENT)
        )
        commands: dict[str, Callable[[int], list[str]]] = {
            POTSTILL: lambda port: python("proxy.worker", "--config", str(config), "--port", str(port)),
            PLAIN: lambda port: python("benchmarks.plain_relay", str(port), str(upstream_port)),
        }
        if nginx := nginx_path():
            commands[NGINX] = lambda port: _nginx_command(nginx, folder / "nginx", port, upstream_port)
        contestants = []
        for number, (name, command) in enumerate(commands.items()):
            port = free_port()
            process = start(f"relay-{number}", command(port), port, relay_core)
            contestants.append(Contestant(name, port, process.pid))
        yield House(upstream_port, tuple(contestants), writer.pid, database)


def nginx_path() -> str:
    """Where nginx is, '' when it is not on PATH."""
    return shutil.which("nginx") or ""


def _nginx_command(nginx: str, folder: Path, port: int, upstream_port: int) -> list[str]:
    """One worker, kept-alive connections to the upstream, no buffering of answers, no log."""
    folder.mkdir()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
    config = folder / "nginx.conf"
    config.write_text(
        f"""daemon off;
worker_processes 1;
pid {folder / "pid"};
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  {temporary}
  keepalive_requests 100000000;
  upstream model {{ server 127.0.0.1:{upstream_port}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://model;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""
    )
    return [nginx, "-p", str(folder), "-c", str(config)]
