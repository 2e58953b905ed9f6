"""A failed reload changes nothing, and a reload reports the changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatehouse.config.load import parse
from gatehouse.config.model import Config
from gatehouse.gateway.compiled import CompiledConfig, secret_references
from gatehouse.gateway.reload import Reloader, compare, keep_restart_only
from gatehouse.operator.reload_result import Changes, Difference
from gatehouse.telemetry.metrics import Metrics

CONFIG = """
sources:
  one: {provider: mando, secrets: env:S, handshake_secrets: env:H}
  two: {provider: mando, secrets: env:T}
destinations:
  app: {url: "http://app.internal/", secret: env:D}
routes:
  - {from: one, types: ["sale.*"], to: app}
  - {from: two, to: app}
"""
ENVIRONMENT = {name: f"{name}-secret-of-some-length" for name in ("S", "H", "T", "D2", "K")} | {
    "D": "whsec_" + "c2VjcmV0LW9mLXNvbWUtbGVuZ3Ro"
}


def compiled(text: str = CONFIG, **environment: str) -> CompiledConfig:
    return CompiledConfig(parse(text), ENVIRONMENT | environment, None)


def config(operator: str) -> Config:
    return parse(f"operator: {operator}\n{CONFIG}").config


def test_equal_configs_have_no_changes() -> None:
    assert compare(compiled(), compiled()) == Changes()
    assert Changes().named() == {}


@pytest.mark.parametrize("name", ["S", "H"])
def test_a_changed_secret_changes_its_source(name: str) -> None:
    changes = compare(compiled(), compiled(**{name: "a-new-secret-of-some-length"}))

    assert changes == Changes(sources=Difference(changed=("one",)))


def test_a_changed_secret_changes_its_destination() -> None:
    changes = compare(compiled(), compiled(D="whsec_" + "YW5vdGhlci1zZWNyZXQtb2Ytc29tZQ=="))

    assert changes == Changes(destinations=Difference(changed=("app",)))


def test_added_and_removed_parts_are_named() -> None:
    text = CONFIG.replace("two", "three").replace("{from: one", "{from: '*'") + "server: {max_body: 1KB}\n"
    changes = compare(compiled(), compiled(text))

    assert changes.named() == {
        "sources_added": ("three",),
        "sources_removed": ("two",),
        "routes_added": ("from *, types sale.*, to app", "from three, types *, to app"),
        "routes_removed": ("from one, types sale.*, to app", "from two, types *, to app"),
        "settings": ("server.max_body",),
    }


def test_every_secret_of_a_source_is_found() -> None:
    text = """
sources:
  one:
    verify:
      - type: any
        of: [{type: hmac, signature: {header: X-A}, secrets: env:A}, {type: basic, secrets: env:B}]
    secrets: env:S
    handshake_secrets: [env:H, "file:h"]
    event: {type: "{body:t}"}
"""
    found = secret_references(parse(text).config.sources["one"])

    assert sorted(map(str, found)) == ["env:A", "env:B", "env:H", "env:S", "file:h"]


def test_a_public_listener_keeps_its_token_until_the_restart() -> None:
    public, local = config('{listen: "0.0.0.0:9090", token: env:K}'), config('{listen: "127.0.0.1:9090"}')
    kept, names = keep_restart_only(public, local)

    assert names == ("operator.listen", "operator.token")
    assert kept.operator == public.operator
    assert keep_restart_only(local, public)[0].operator.token == public.operator.token


async def test_a_defect_during_a_reload_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(CONFIG)
    current, metrics = CompiledConfig(parse(CONFIG, directory=tmp_path), ENVIRONMENT, None), Metrics()

    def fail(_: object) -> CompiledConfig:
        raise RuntimeError("quotes the file")

    def never(*_: object) -> None:
        raise AssertionError

    result = await Reloader(current, fail, never, metrics, lambda: 1.0).reload()

    assert [str(problem) for problem in result.problems] == [
        f"{tmp_path / 'gateway.yaml'}: a defect: RuntimeError"
    ]
    assert metrics.registry.get_sample_value("gatehouse_config_last_reload_successful") == 0
