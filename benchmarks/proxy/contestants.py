"""What is compared, and how each is started: Potstill with full capture, nginx, LiteLLM and Portkey with logging off."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import python
from benchmarks.proxy.traffic import BIG, BURST, JSON, PACED, SLOW, TLS, key_of, model_of

POTSTILL, WRITER, NGINX, LITELLM, PORTKEY = "potstill", "potstill_writer", "nginx", "litellm", "portkey"
DIRECT = "direct"
NAMES = (POTSTILL, NGINX, LITELLM, PORTKEY)
_PORTKEY_STREAMS = Path(__file__).with_name("portkey_streams.mjs")
_MODELS = (JSON, BURST, PACED, BIG, TLS, SLOW)
_OPEN_FILES = 19_000


@dataclass(frozen=True, slots=True)
class Ports:
    """Where things listen; `nginx_tls` is nginx's second port, behind which it speaks TLS to the upstream."""

    upstream: int
    upstream_tls: int
    nginx_tls: int
    contestants: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a contestant is started, and what it can take."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    connections: int = 32
    streams: int = 32
    """Connections that are kept busy with JSON, and with streams; fewer where 32 would only queue."""
    rate: float = 150.0
    """Requests for each second when delays are measured; less where it cannot follow."""
    longer: int = 1
    """How many times as long it is loaded, as it answers few requests."""


@dataclass(frozen=True, slots=True)
class Peers:
    """Where peers are installed: a virtual environment with litellm[proxy], a folder with Portkey's node_modules."""

    litellm: str
    portkey: str

    def missing(self) -> dict[str, str]:
        """The contestants that cannot be started, and why."""
        found = {}
        if not shutil.which("nginx"):
            found[NGINX] = "nginx is not on PATH"
        if not self.litellm_command.is_file():
            found[LITELLM] = f"there is no {self.litellm_command}: name an environment with litellm[proxy] by --litellm"
        if not self.portkey_script.is_file():
            found[PORTKEY] = f"there is no {self.portkey_script}: name a folder with @portkey-ai/gateway by --portkey"
        elif not shutil.which("node"):
            found[PORTKEY] = "node is not on PATH"
        return found

    @property
    def litellm_command(self) -> Path:
        """LiteLLM's command."""
        return Path(self.litellm).absolute() / "bin" / "litellm"

    @property
    def portkey_script(self) -> Path:
        """Portkey's server."""
        return Path(self.portkey).absolute() / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"

    def versions(self, names: Sequence[str]) -> dict[str, str]:
        """What is measured, by name."""
        found = {}
        if NGINX in names:
            words = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
            found[NGINX] = words.strip().rpartition("/")[2]
        if LITELLM in names:
            ask = "from importlib.metadata import version; print(version('litellm'))"
            python_of = self.litellm_command.with_name("python")
            found[LITELLM] = subprocess.run([python_of, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
        if PORTKEY in names:
            found[PORTKEY] = json.loads((self.portkey_script.parents[1] / "package.json").read_text())["version"]
            found["node"] = subprocess.run(["node", "-v"], capture_output=True, text=True, check=True).stdout.strip()
        return found


def plans(peers: Peers, folder: Path, config: Path, certificate: Path, ports: Ports) -> dict[str, Plan]:
    """Every contestant that is installed, with its files under `folder`."""
    missing = peers.missing()
    listen = ports.contestants
    found = {POTSTILL: Plan(python("proxy.worker", "--config", str(config), "--port", str(listen[POTSTILL])))}
    if NGINX not in missing:
        found[NGINX] = Plan(_nginx(folder / "nginx", certificate, ports))
    if LITELLM not in missing:
        found[LITELLM] = _litellm(peers.litellm_command, folder, certificate, ports)
    if PORTKEY not in missing:
        node = ["node", "--import", str(_PORTKEY_STREAMS)]
        command = [*node, str(peers.portkey_script), f"--port={listen[PORTKEY]}", "--headless"]
        environment = {"NODE_ENV": "production", "NODE_EXTRA_CA_CERTS": str(certificate)}
        found[PORTKEY] = Plan(command, environment, streams=16, longer=2)
    return found


def extra_headers(name: str, scenario: str, ports: Ports) -> dict[str, str]:
    """Headers without which a contestant does not know the way to the upstream."""
    if name != PORTKEY:
        return {}
    return {"x-portkey-provider": "openai", "x-portkey-custom-host": _upstream_url(scenario, ports)}


def port_of(name: str, scenario: str, ports: Ports) -> int:
    """Where a contestant takes the requests of a scenario."""
    if name == DIRECT:
        return ports.upstream
    return ports.nginx_tls if name == NGINX and scenario == TLS else ports.contestants[name]


def potstill_config(ports: Ports, certificate: Path, spool_max_mib: int = 0) -> str:
    """potstill.toml: the plain upstream, and for one model the one behind TLS."""
    spool = f"[capture]\nspool_max_mib = {spool_max_mib}\n\n" if spool_max_mib else ""
    return (
        f'[store]\ndata_folder = "data"\n\n{spool}'
        f'[upstreams.openai]\nurl = "{_upstream_url(JSON, ports)}"\n\n'
        f'[upstreams.secure]\nurl = "{_upstream_url(TLS, ports)}"\nmodels = ["{model_of(TLS)}"]\nca_file = "{certificate}"\n'
    )


def _upstream_url(scenario: str, ports: Ports) -> str:
    return f"https://localhost:{ports.upstream_tls}/v1" if scenario == TLS else f"http://127.0.0.1:{ports.upstream}/v1"


def _litellm(command: Path, folder: Path, certificate: Path, ports: Ports) -> Plan:
    """One worker, no database, no callbacks, no key asked for."""
    models = [
        {
            "model_name": model_of(scenario),
            "litellm_params": {
                "model": f"openai/{model_of(scenario)}",
                "api_base": _upstream_url(scenario, ports),
                "api_key": key_of(scenario),
            },
        }
        for scenario in _MODELS
    ]
    settings = {"callbacks": [], "num_retries": 0, "request_timeout": 600, "telemetry": False}
    config = folder / "litellm.yaml"  # JSON is YAML too
    config.write_text(json.dumps({"model_list": models, "litellm_settings": settings}))
    port = str(ports.contestants[LITELLM])
    return Plan(
        [str(command), "--config", str(config), "--host", "127.0.0.1", "--port", port, "--num_workers", "1"],
        {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_TELEMETRY": "False",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
            "SSL_CERT_FILE": str(certificate),
        },
        connections=8,
        streams=3,
        rate=20.0,
        longer=2,
    )


def _nginx(folder: Path, certificate: Path, ports: Ports) -> list[str]:
    """One worker, connections to the upstream kept open, no buffering of answers, no log."""
    folder.mkdir()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
    common = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;'
    kept = "keepalive 512; keepalive_requests 100000000;"
    user = f"user {pwd.getpwuid(0).pw_name};\n" if os.geteuid() == 0 else ""  # who else could not write the large bodies
    config = folder / "nginx.conf"
    config.write_text(
        f"""{user}daemon off;
worker_processes 1;
worker_rlimit_nofile {_OPEN_FILES};
pid {folder / "pid"};
error_log stderr error;
events {{ worker_connections {_OPEN_FILES}; }}
http {{
  access_log off;
  {temporary}
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  client_max_body_size 100m;
  client_body_buffer_size 512k;
  upstream plain {{ server 127.0.0.1:{ports.upstream} max_fails=0; {kept} }}
  upstream secure {{ server 127.0.0.1:{ports.upstream_tls} max_fails=0; {kept} }}
  server {{
    listen 127.0.0.1:{ports.contestants[NGINX]} backlog=4096;
    location / {{ proxy_pass http://plain; {common} }}
  }}
  server {{
    listen 127.0.0.1:{ports.nginx_tls} backlog=4096;
    location / {{
      proxy_pass https://secure; {common}
      proxy_ssl_verify on; proxy_ssl_trusted_certificate {certificate}; proxy_ssl_name localhost; proxy_ssl_server_name on;
    }}
  }}
}}
"""
    )
    return [shutil.which("nginx") or "nginx", "-p", str(folder), "-c", str(config)]
