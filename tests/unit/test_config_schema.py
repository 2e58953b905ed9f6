"""The JSON Schema is current, accepts every config that loads, and refuses obvious mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from gatehouse import providers
from gatehouse.cli import main
from gatehouse.config.document import read_yaml
from gatehouse.config.load import parse
from gatehouse.config.presets import raw_preset
from gatehouse.errors import ConfigError
from gatehouse.reference.schema import model_schema, schema

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "docs" / "gateway.schema.json"
VALIDATOR = Draft7Validator(schema())

HISAB = "sources: {a: {provider: hisab, secrets: env:A, %s}}"
OWN = "sources: {a: {secrets: env:A, event: {type: x}, verify: %s}}"
NO_SOURCES = "sources: {}\n%s"
TARGET = NO_SOURCES % "destinations: {a: {url: http://a, %s}}"

GOOD = [
    "sources: {}",
    NO_SOURCES % "server:\noperator:\nstore:\ndestinations:\nroutes:\n",
    NO_SOURCES % "server: {listen: ':80', public_url: https://a, max_body: 65536}",
    NO_SOURCES % "server: {trusted_proxies: ['::1', 10.0.0.0/8]}",
    NO_SOURCES % "operator: {listen: '[::]:9090', token: file:/run/secrets/token}",
    NO_SOURCES % "store: {url: sqlite:////var/lib/a.db, keep_events: 1d12h, keep_dead: }",
    NO_SOURCES
    % "store: {url: 'postgresql://a@b,[::1]:1/c?sslmode=require', password: env:A, connections: 2}",
    "sources: {a: {provider: mandato, secrets: [env:A, file:b], path: /b/}}",
    HISAB % "verify: {timestamp: {tolerance: 1m}}, event: {subject: }",
    HISAB % "verify: {signature: {prefix: ''}, secrets: [env:B]}",
    HISAB % "verify: {type: basic}",
    HISAB % "verify: {type: none, insecure: true}",
    HISAB % "verify: preset",
    HISAB % "verify: [preset, {type: basic, username: u}]",
    HISAB % "dedupe: {by: ['{body:a}', ['{body:b}', '{signed}']], window: 1d}",
    HISAB % "dedupe: {by: ['{body:a}', {key: '{body:b}'}, {key: ['{body:c}', '{signed}'], window: 6h}]}",
    HISAB % "dedupe: , answers: {accepted: 202, duplicate: }",
    HISAB % "samples: [{headers: {X-A: b}, body: '{}'}], types: [a]",
    "sources: {a: {provider: '', verify: {type: none, insecure: true}, event: {type: x}}}",
    OWN % "[{type: token, query: t}, {type: basic}]",
    OWN % "{type: hmac, signature: {header: [X-A, X-B]}, signed: ['{body:a}', '{body}']}",
    OWN % "{type: hmac, digest: sha1, key: whsec, signature: {form: s, encoding: base64}}",
    OWN % "{type: hmac, signature: {header: A, format: pairs, key: [v1, v0]}, timestamp: {pair: t}}",
    TARGET % "secret: [env:A, env:B], rate: 0.5/m, concurrency: 1, headers: [X-*]",
    TARGET % "retry: {first: 1s, factor: 1.5, max: 1m, give_up_after: 1h}",
    HISAB % "" + "\ndestinations: {b: {url: http://b}}\nroutes: [{from: a, to: b}]",
    HISAB % "" + "\ndestinations: {b: {url: http://b}}\nroutes: [{from: ['*'], types: [x, y.*], to: [b]}]",
]

BAD = [
    "",
    "server: {}",
    "sources: {}\nsever: {}",
    "sources: []",
    "sources: {A b: {provider: mandato, secrets: env:A}}",
    "sources: {a: {provider: mandatoo, secrets: env:A}}",
    "sources: {a: {secrets: env:A}}",
    "sources: {a: {provider: , secrets: env:A}}",
    "sources: {a: {provider: mandato, secrets: written-out}}",
    "sources: {a: {provider: mandato, secret: env:A}}",
    "sources: {a: {provider: mandato, secrets: env:A, verify: presets}}",
    "sources: {a: {provider: mandato, secrets: env:A, verify: {signature: {haeder: X}}}}",
    "sources: {a: {provider: mandato, secrets: env:A, event: {tpye: x}}}",
    "sources: {a: {secrets: env:A, event: {type: x}, verify: [preset]}}",
    "sources: {a: {secrets: env:A, event: {type: x}, verify: {type: hmca}}}",
    "sources: {a: {secrets: env:A, event: {type: x}, verify: {type: none}}}",
    "sources: {a: {secrets: env:A, event: {id: x}, verify: {type: basic}}}",
    "sources: {}\nserver: {max_body: 0}",
    "sources: {}\nserver: {max_body: 1XB}",
    "sources: {}\nserver: {request_deadline: 10}",
    "sources: {}\nserver: {public_url: https://a/b}",
    "sources: {}\nstore: {url: 'postgresql://a/b'}",
    "sources: {}\nstore: {url: 'postgresql://a:b@c/d'}",
    "sources: {}\nstore: {url: 'postgresql://a@b/c?password=d'}",
    "sources: {}\nstore: {url: 'postgresql://a@b/c', password: written-out}",
    "sources: {}\ndestinations: {a: {}}",
    "sources: {}\ndestinations: {a: {url: http://a, format: xml}}",
    "sources: {}\ndestinations: {a: {url: http://a, concurrency: '10'}}",
    "sources: {}\ndestinations: {a: {url: http://a, retry: {factor: true}}}",
    "sources: {}\nroutes: [{from: a, to: []}]",
    "sources: {}\nroutes: [{form: a, to: b}]",
]


def as_json(value: Any) -> Any:
    """Turn tuples into lists."""
    if isinstance(value, dict):
        return {key: as_json(member) for key, member in value.items()}
    return [as_json(entry) for entry in value] if isinstance(value, tuple) else value


def complaints(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(as_json(read_yaml(text, "a.yaml").data))]


def test_the_shipped_schema_is_up_to_date() -> None:
    """If not: `make schema`."""
    done = subprocess.run(
        [sys.executable, "-m", "gatehouse.reference.schema"], capture_output=True, text=True, check=True
    )

    assert SHIPPED.read_text() == done.stdout
    assert json.loads(done.stdout) == schema()


def test_the_schema_is_a_schema() -> None:
    Draft7Validator.check_schema(schema())
    assert schema()["$id"] == "urn:gatehouse:config:0.1"


def test_the_schema_command_prints_the_shipped_schema() -> None:
    result = CliRunner().invoke(main, ["schema"])

    assert (result.exit_code, result.stdout) == (0, SHIPPED.read_text())


@pytest.mark.parametrize("text", [*GOOD, (ROOT / "gateway.yaml").read_text()])
def test_the_schema_accepts_every_config_that_loads(text: str) -> None:
    parse(text)
    assert complaints(text) == []


@pytest.mark.parametrize("name", providers.names())
def test_the_schema_accepts_a_preset_written_out(name: str) -> None:
    values = dict.fromkeys(raw_preset(name).get("values", {}), "it")
    source = as_json(raw_preset(name)) | {"secrets": "env:A", "values": values}
    text = yaml.safe_dump({"server": {"public_url": "https://a.example"}, "sources": {"a": source}})

    parse(text)
    assert complaints(text) == []


@pytest.mark.parametrize("text", BAD)
def test_the_schema_refuses_configs_that_do_not_load(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text)
    assert complaints(text)


SCALARS = st.sampled_from(
    [
        *(
            "a",
            "*",
            "env:A",
            "file:/a",
            "{body}",
            "{body:a}",
            "30s",
            "1MiB",
            "1/s",
            "/a",
            "X-A",
            "127.0.0.1:1",
        ),
        *("http://a", "sqlite:///a", "hmac", "token", "basic", "none", "preset", "plain", "hex", "raw", ""),
        *(None, True, 1, 16, 201, 401, 1.5, 65536),
    ]
)


#: The models by their names. Making the schema takes a tenth of a second.
DEFINITIONS = model_schema()["$defs"]


def part(model: str, *inner: str) -> st.SearchStrategy[dict[str, Any]]:
    """Make mappings with keys of a model, with inner mappings where it has them."""
    values: dict[str, Any] = {}
    for key in DEFINITIONS[model]["properties"]:
        nested = [part(name) for name in inner if name.lower().startswith(key)]
        values[key] = st.one_of(SCALARS, st.lists(SCALARS, max_size=2), *nested)
    return st.dictionaries(st.sampled_from(sorted(values)), st.none(), max_size=2).flatmap(
        lambda keys: st.fixed_dictionaries({key: values[key] for key in keys})
    )


VERIFIERS = st.one_of(
    part("HmacConfig", "SignatureConfig", "TimestampConfig"), part("TokenConfig"), part("BasicConfig")
)
SOURCES = st.builds(
    lambda source, verify: {"provider": "hisab", "secrets": "env:A"} | source | verify,
    part("SourceConfig", "EventConfig", "DedupeConfig", "AnswersConfig"),
    st.one_of(
        st.just({}), st.fixed_dictionaries({"verify": st.one_of(VERIFIERS, st.lists(VERIFIERS, max_size=2))})
    ),
)


@given(
    st.fixed_dictionaries(
        {"sources": st.dictionaries(st.just("a"), SOURCES, min_size=1)},
        optional={
            "server": part("ServerConfig"),
            "store": part("StoreConfig"),
            "destinations": st.dictionaries(
                st.just("b"),
                part("DestinationConfig", "RetryConfig").map(lambda own: {"url": "http://b"} | own),
            ),
        },
    )
)
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_the_schema_accepts_generated_configs_that_load(config: dict[str, Any]) -> None:
    text = yaml.safe_dump(config)
    try:
        parse(text)
    except ConfigError:
        return
    assert complaints(text) == []
