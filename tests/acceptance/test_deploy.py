"""The files of deploy/ match each other: what one of them names, another one mounts or defines."""

from __future__ import annotations

import asyncio
import fnmatch
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from standardwebhooks import Webhook

from gatehouse.config.load import load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
GATEWAY = COMPOSE["services"]["gateway"]
CONFIG = load(DEPLOY / "compose.gateway.yaml").config
SECRETS_DIRECTORY = "/run/secrets"

DOCKERFILES = ["deploy/Dockerfile", "deploy/example-app/Dockerfile"]
each_dockerfile = pytest.mark.parametrize("file", DOCKERFILES)
each_service = pytest.mark.parametrize("service", COMPOSE["services"])


def _instructions(file: str) -> list[tuple[str, str]]:
    """Split a Dockerfile into its instructions: the name and the rest, with continued lines joined."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    parts = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, rest in parts]


def _last_stage(file: str) -> dict[str, str]:
    """Return the instructions of the final stage. If one repeats, the last one counts."""
    instructions = _instructions(file)
    start = max(index for index, (name, _) in enumerate(instructions) if name == "FROM")
    return dict(instructions[start:])


@each_dockerfile
def test_image_has_a_slim_base_of_one_python_minor_version(file: str) -> None:
    instructions = _instructions(file)
    arguments = dict(rest.split("=", 1) for name, rest in instructions if name == "ARG" and "=" in rest)
    bases = [rest.split()[0] for name, rest in instructions if name == "FROM"]
    minor = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].strip(">=")

    for base in bases:
        image = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], base)
        assert re.fullmatch(rf"python:{re.escape(minor)}-slim-[a-z]+", image)


@each_dockerfile
def test_image_runs_as_a_fixed_user_that_compose_keeps(file: str) -> None:
    user = _last_stage(file)["USER"]
    services = [
        service
        for service in COMPOSE["services"].values()
        if service.get("build", {}).get("dockerfile") == file
    ]

    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert [service["user"] for service in services] == [user]


@each_dockerfile
def test_image_stops_on_sigterm_because_it_runs_without_a_shell(file: str) -> None:
    stage = _last_stage(file)

    assert stage["STOPSIGNAL"] == "SIGTERM"
    assert isinstance(json.loads(stage["ENTRYPOINT"]), list)


@each_dockerfile
def test_image_copies_only_what_the_build_context_contains(file: str) -> None:
    """The copied files exist, and the ignore file next to the Dockerfile admits exactly these."""
    ignore = (ROOT / f"{file}.dockerignore").read_text().splitlines()
    sent = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    copied = [
        source
        for name, rest in _instructions(file)
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]

    assert "*" in ignore
    assert sorted(copied) == sorted(sent)
    assert all((ROOT / source).exists() for source in copied)


def test_gateway_image_serves_by_default() -> None:
    stage = _last_stage("deploy/Dockerfile")

    assert json.loads(stage["ENTRYPOINT"]) == ["gatehouse"]
    assert json.loads(stage["CMD"]) == ["serve"]


def test_gateway_image_refuses_to_build_with_an_unexpected_sqlite() -> None:
    """3.51.3 is the first release without the WAL-reset bug on the newest branch."""
    instructions = _instructions("deploy/Dockerfile")
    version = next(
        rest.partition("=")[2] for name, rest in instructions if rest.startswith("SQLITE_VERSION=")
    )
    archive = next(rest for name, rest in instructions if name == "ADD")
    numbers = [int(number) for number in version.split(".")]

    assert numbers >= [3, 51, 3]
    assert "--checksum=sha256:" in archive
    assert "sqlite-amalgamation-{}{:02}{:02}00.zip".format(*numbers) in archive
    assert any(name == "RUN" and "sqlite3.sqlite_version" in rest for name, rest in instructions)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
async def test_health_check_reports_by_its_exit_code(status: int, code: int) -> None:
    """Runs the image's own command against a substitute for the operator server."""
    rest = next(rest for name, rest in _instructions("deploy/Dockerfile") if name == "HEALTHCHECK")
    _, flag, script = json.loads(rest.partition("CMD ")[2])
    app = web.Application()

    async def health(_: web.Request) -> web.Response:
        return web.Response(status=status)

    app.router.add_get("/healthz", health)
    async with TestServer(app) as server:
        assert "9090" in script
        script = script.replace("9090", str(server.port))
        process = await asyncio.create_subprocess_exec(sys.executable, flag, script)
        assert await process.wait() == code


@each_service
def test_service_can_change_nothing_but_its_volumes(service: str) -> None:
    settings = COMPOSE["services"][service]

    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in settings
    assert "cap_add" not in settings


@each_service
def test_service_publishes_ports_only_on_loopback(service: str) -> None:
    for port in COMPOSE["services"][service].get("ports", []):
        assert port.startswith("127.0.0.1:")


@each_service
def test_service_mounts_files_that_exist_and_volumes_that_are_declared(service: str) -> None:
    for mount in COMPOSE["services"][service].get("volumes", []):
        source, _, options = mount.partition(":")
        if source.startswith("."):
            assert (DEPLOY / source).is_file()
            assert options.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]


@each_service
def test_service_is_built_here_or_has_a_pinned_image(service: str) -> None:
    settings = COMPOSE["services"][service]
    if "build" in settings:
        assert (DEPLOY / settings["build"]["context"]).resolve() == ROOT
        assert (ROOT / settings["build"]["dockerfile"]).is_file()
    else:
        assert re.search(r":v\d+\.\d+\.\d+$", settings["image"])


def test_gateway_gets_exactly_the_secrets_that_its_config_names() -> None:
    text = (DEPLOY / "compose.gateway.yaml").read_text()

    named = re.findall(rf"file:{SECRETS_DIRECTORY}/(\w+)", text)
    assert sorted(named) == sorted(GATEWAY["secrets"])
    assert "env:" not in text


def test_each_secret_is_used_and_each_used_secret_is_declared() -> None:
    used = {name for service in COMPOSE["services"].values() for name in service.get("secrets", [])}

    assert used == set(COMPOSE["secrets"])


def test_gateway_keeps_its_store_in_the_volume() -> None:
    directory = CONFIG.store.url.removeprefix("sqlite:///").rpartition("/")[0]

    assert f"gateway-store:{directory}" in GATEWAY["volumes"]
    assert _last_stage("deploy/Dockerfile")["VOLUME"] == directory


def test_gateway_reads_the_config_that_is_mounted() -> None:
    environment = _last_stage("deploy/Dockerfile")
    instructions = " ".join(rest for name, rest in _instructions("deploy/Dockerfile") if name == "ENV")
    file = re.search(r"GATEHOUSE_CONFIG=(\S+)", instructions)

    assert environment
    assert file is not None
    assert f"./compose.gateway.yaml:{file[1]}:ro" in GATEWAY["volumes"]


def test_operator_server_is_reachable_only_for_prometheus_and_with_a_token() -> None:
    (scrape,) = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    operator = CONFIG.operator

    assert scrape["static_configs"] == [{"targets": [f"gateway:{operator.listen.port}"]}]
    assert str(operator.token) == f"file:{scrape['authorization']['credentials_file']}"
    assert not any(port.endswith(f":{operator.listen.port}") for port in GATEWAY["ports"])


def test_destination_is_the_example_app_with_its_own_secret() -> None:
    destination = CONFIG.destinations["example-app"]
    secret = COMPOSE["services"]["example-app"]["environment"]["SECRET_FILE"]

    assert destination.url == f"http://example-app:{_last_stage(DOCKERFILES[1])['EXPOSE']}/events"
    assert [str(reference) for reference in destination.secret] == [f"file:{secret}"]


def _make_secrets(directory: Path) -> dict[str, str]:
    subprocess.run(["sh", DEPLOY / "make-secrets.sh", directory], check=True, capture_output=True, timeout=10)
    return {file.name: file.read_text().strip() for file in directory.iterdir()}


def test_one_command_makes_every_secret_file(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    secrets = _make_secrets(directory)

    several = yaml.safe_load((DEPLOY / "compose.postgres.yaml").read_text())
    mounted = [*COMPOSE["secrets"].values(), *several["secrets"].values()]
    assert {f"./secrets/{name}" for name in secrets} == {secret["file"] for secret in mounted}
    assert len(set(secrets.values())) == len(secrets)
    assert all(len(secret) >= 32 for secret in secrets.values())
    Webhook(secrets["example_app"])  # fails unless it is whsec_ and base64
    # Containers read the files as another user. On this machine, the directory keeps other users out.
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o644 for file in directory.iterdir())


def test_existing_secrets_are_not_changed(tmp_path: Path) -> None:
    (tmp_path / "mandato").write_text("what the provider gave\n")

    assert _make_secrets(tmp_path)["mandato"] == "what the provider gave"
    assert _make_secrets(tmp_path) == _make_secrets(tmp_path)


def test_secrets_are_neither_committed_nor_sent_to_a_build() -> None:
    assert "secrets/" in (DEPLOY / ".gitignore").read_text().splitlines()
    for file in DOCKERFILES:
        allowed = re.findall(r"^!(.*)$", (ROOT / f"{file}.dockerignore").read_text(), re.MULTILINE)
        assert not any(fnmatch.fnmatch("deploy/secrets/mandato", f"{pattern}*") for pattern in allowed)


@pytest.fixture
def app_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_app", DEPLOY / "example-app/app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSBleGFtcGxlIGFwcA=="
EVENT = (
    '{"specversion":"1.0","id":"evt_1","source":"/webhooks/mandato","type":"invoice.accepted",'
    '"time":"2025-01-15T10:00:15Z","subject":"inv_1","data":{}}'
)


def _signed(event_id: str) -> dict[str, str]:
    now = datetime.now(UTC)
    signature = Webhook(SECRET).sign(event_id, now, EVENT)
    return {
        "Webhook-Id": event_id,
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": signature,
    }


async def test_example_app_prints_an_event_once(
    app_module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    headers = _signed("01JD0000000000000000000000")
    async with TestClient(TestServer(app_module.build(SECRET))) as client:
        statuses = [(await client.post("/events", data=EVENT, headers=headers)).status for _ in range(2)]

    assert statuses == [204, 204]
    printed = [line for line in capsys.readouterr().out.splitlines() if "invoice" in line]
    assert printed == ["2025-01-15T10:00:15Z /webhooks/mandato invoice.accepted inv_1"]


@pytest.mark.parametrize(
    "forged",
    [
        {},
        {"Webhook-Id": "another"},
        {"Webhook-Timestamp": "1"},
        {"Webhook-Signature": "v1,bm90IG91cnM="},
        {"Webhook-Signature": "without a comma"},
        {"Webhook-Signature": "v1,not base64"},
    ],
    ids=lambda forged: ",".join(forged.values()) or "unsigned",
)
async def test_example_app_refuses_what_the_gateway_did_not_sign(
    app_module: ModuleType, capsys: pytest.CaptureFixture[str], forged: dict[str, str]
) -> None:
    headers = _signed("01JD0000000000000000000000") | forged if forged else {}
    async with TestClient(TestServer(app_module.build(SECRET))) as client:
        answer = await client.post("/events", data=EVENT, headers=headers)

    assert answer.status == 401
    assert "invoice" not in capsys.readouterr().out


def _unit() -> dict[str, list[str]]:
    """Return the directives of the unit: name → its values, in order."""
    directives: dict[str, list[str]] = {}
    for line in (DEPLOY / "gatehouse.service").read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            directives.setdefault(name, []).append(value)
    return directives


@pytest.mark.parametrize(
    ("directive", "value"),
    [
        ("Type", "exec"),
        ("Restart", "on-failure"),
        ("KillSignal", "SIGTERM"),
        ("TimeoutStopSec", "15s"),
        ("DynamicUser", "yes"),
        ("StateDirectory", "gatehouse"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("MemoryDenyWriteExecute", "yes"),
        ("RestrictNamespaces", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("SystemCallArchitectures", "native"),
        ("UMask", "0077"),
    ],
)
def test_unit_is_hardened(directive: str, value: str) -> None:
    assert _unit()[directive] == [value]


def test_unit_allows_only_what_services_need() -> None:
    allowed, refused = _unit()["SystemCallFilter"]

    assert allowed == "@system-service"
    assert refused == "~@privileged @resources"


def test_unit_loads_secrets_as_credentials_and_not_from_its_environment() -> None:
    unit = _unit()

    assert all(re.fullmatch(r"(\w+):/etc/gatehouse/secrets/\1", entry) for entry in unit["LoadCredential"])
    assert "EnvironmentFile" not in unit
    assert not any("SECRET" in entry or "TOKEN" in entry for entry in unit["Environment"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is part of systemd")
def test_systemd_rates_the_exposure_of_the_unit_as_low() -> None:
    """The threshold is in tenths: an exposure of 2.0 out of 10."""
    run = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", DEPLOY / "gatehouse.service"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=os.environ | {"SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"},
    )

    assert run.returncode == 0, run.stdout[-300:] + run.stderr


@pytest.mark.parametrize("file", ["nginx.conf", "Caddyfile", "haproxy.cfg"])
def test_proxy_passes_to_the_gateway_and_never_to_the_operator_server(file: str) -> None:
    code = _without_comments(file)

    assert "127.0.0.1:8080" in code
    assert "9090" not in code


@pytest.mark.parametrize(
    "line",
    [
        "proxy_pass http://gatehouse;",  # a path here would replace the one that was sent
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_next_upstream off;",
        "client_max_body_size 2m;",
        "proxy_read_timeout 15s;",
    ],
)
def test_nginx_changes_no_request_and_repeats_none(line: str) -> None:
    assert line in [part.strip() for part in _without_comments("nginx.conf").splitlines()]


@pytest.mark.parametrize(
    "line",
    [
        "lb_retries 0",
        "max_size 2MiB",
        "response_header_timeout 15s",
    ],
)
def test_caddy_changes_no_request_and_repeats_none(line: str) -> None:
    code = _without_comments("Caddyfile")

    assert line in [part.strip() for part in code.splitlines()]
    assert not re.search(r"\b(rewrite|uri|handle_path|encode|log|trusted_proxies|header_up)\b", code)


@pytest.mark.parametrize(
    "line",
    [
        "http-request set-header X-Forwarded-For %[src]",
        "retry-on conn-failure",
        "timeout server 15s",
        "tune.http.maxhdr 160",
    ],
)
def test_haproxy_changes_no_request_and_repeats_none(line: str) -> None:
    code = _without_comments("haproxy.cfg")

    assert line in [part.strip() for part in code.splitlines()]
    assert not re.search(r"\b(set-path|set-uri|replace-|compression|redirect|log|http-reuse)\b", code)


def _without_comments(file: str) -> str:
    return re.sub(r"(?m)^\s*#.*$", "", (DEPLOY / file).read_text())
