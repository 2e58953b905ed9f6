"""docs/api.md, made from the OpenAPI document: `python -m gatehouse.reference.api` prints it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gatehouse.reference.components import REFERENCE, Schema
from gatehouse.reference.openapi import ERRORS, document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_HEAD = """\
# API reference

The second listener of Gatehouse serves this API to operators and their tools. The commands
`gatehouse events`, `dead`, `retry`, `replay`, `pause`, `resume` and `reload` use it too
([operations.md](operations.md)).
[`openapi.json`](openapi.json) is this reference as OpenAPI 3.1, for clients and generators. Both files are
generated from the code (`make api`). A test compares them with the answers of a running gateway.

- **Address**: `operator.listen` in the config, by default `127.0.0.1:9090`. For the examples, run
  `export OPERATOR=http://127.0.0.1:9090`.
- **Token**: with `operator.token` or `operator.tokens` in the config, every request needs
  `Authorization: Bearer TOKEN`, except `/healthz` and `/readyz`. The examples take the token from
  `$GATEHOUSE_OPERATOR_TOKEN`.
- **Role**: a token with the role `read` may use `GET` and `HEAD`, and `POST` with `"dry_run": true` where
  that changes nothing. Every other request gets 403.
- **Bodies** are JSON objects of at most 64 KiB. Send them with `Content-Type: application/json`. The content
  type of a form is refused.
- **Pages**: a list of events or deliveries has a `cursor`. Ask for the next page with the same filters and
  that `cursor`, until it is `null`.
- **Changes**: new members may be added. Existing members are never renamed or removed.

## Errors

The body of every error has the same form:

```json
{"error": {"code": "bad_request", "message": "limit must be a number from 1 to 500"}}
```

`code` is for programs. `message` is for people, and its wording may change.

| status | code | meaning |
| --- | --- | --- |
"""
_AUTHORIZED = '-H "Authorization: Bearer $GATEHOUSE_OPERATOR_TOKEN"'


def page() -> str:
    """Write the page."""
    made = document()
    return "\n".join([_HEAD + _errors(), *_chapters(made), *_types(made)]) + "\n"


def _errors() -> str:
    rows = []
    for status, kind in ERRORS.items():
        header = " `Retry-After` says how many seconds." if "throttled" in kind.codes else ""
        codes = ", ".join(f"`{code}`" for code in kind.codes)
        rows.append(f"| {status} | {codes} | {kind.description}{header} |\n")
    return "".join(rows)


def _chapters(made: dict[str, Any]) -> Iterator[str]:
    for tag in made["tags"]:
        yield f"## {tag['name']}\n\n{tag['description']}\n"
        for path, methods in made["paths"].items():
            for method, operation in methods.items():
                if operation["tags"] == [tag["name"]]:
                    yield from _operation(made, method.upper(), path, operation)


def _operation(made: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### `{method} {path}`\n\n{operation['summary']}\n"
    if "description" in operation:
        yield operation["description"] + "\n"
    yield f"```bash\n{_curl(method, path, operation)}\n```\n"
    if rows := [*_parameters(operation), *_members(made, operation)]:
        yield "\n".join(["| parameter | in | type | meaning |", "| --- | --- | --- | --- |", *rows]) + "\n"
    yield from _answers(operation)


def _curl(method: str, path: str, operation: dict[str, Any]) -> str:
    words = ["curl -s"]
    if "security" not in operation:
        words.append(_AUTHORIZED)
    if method == "POST":
        words.append("-X POST")
    if "requestBody" in operation:
        example = operation["requestBody"]["content"]["application/json"]["example"]
        words.append(f"-H 'Content-Type: application/json' -d '{json.dumps(example)}'")
    examples = [
        f"{parameter['name']}={quote(str(value), safe='*')}"
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query" and "example" in parameter
        for value in _each(parameter["example"])
    ]
    where = path.replace("{id}", "$ID").replace("{name}", "$NAME")
    query = "?" + "&".join(examples) if examples else ""
    words.append(f'"$OPERATOR{where}{query}"')
    return " ".join(words)


def _each(example: object) -> Iterable[object]:
    return example if isinstance(example, list) else [example]


def _parameters(operation: dict[str, Any]) -> Iterator[str]:
    for parameter in operation.get("parameters", ()):
        needed = "" if parameter["in"] == "path" or not parameter["required"] else " Needed."
        meaning = parameter["description"] + needed + _default(parameter["schema"])
        yield _row(parameter["name"], parameter["in"], _type(parameter["schema"]), meaning)


def _members(made: dict[str, Any], operation: dict[str, Any]) -> Iterator[str]:
    if "requestBody" not in operation:
        return
    ref = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    for name, schema in _resolve(made, ref)["properties"].items():
        yield _row(name, "body", _type(schema), schema.get("description", "") + _default(schema))


def _default(schema: Schema) -> str:
    return f" Default: `{json.dumps(schema['default'])}`." if "default" in schema else ""


def _answers(operation: dict[str, Any]) -> Iterator[str]:
    own = {status: answer for status, answer in operation["responses"].items() if "$ref" not in answer}
    for status, answer in own.items():
        ((kind, content),) = answer["content"].items()
        if "example" not in content:
            yield f"`{status}`: `{kind}`.\n"
            continue
        types = " or ".join(_link(ref) for ref in _refs(content["schema"]))
        yield f"`{status}`: {types}.\n"
        if status == "200":
            example = json.dumps(content["example"], indent=2, ensure_ascii=False)
            yield f"```json\n{example}\n```\n"
    errors = ", ".join(f"`{status}`" for status in operation["responses"] if status not in own)
    if errors:
        yield f"[Errors](#errors): {errors}.\n"


def _types(made: dict[str, Any]) -> Iterator[str]:
    asked = {
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        for methods in made["paths"].values()
        for operation in methods.values()
        if "requestBody" in operation
    }
    yield "## Types\n"
    for name, schema in made["components"]["schemas"].items():
        if REFERENCE + name in asked:
            continue
        yield f"### {name}\n\n{schema['description']}\n\n| member | type | meaning |\n| --- | --- | --- |"
        for member, described in schema["properties"].items():
            optional = "" if member in schema["required"] else "May be missing. "
            meaning = optional + described.get("description", "")
            yield f"| `{member}` | {_type(described)} | {_cell(meaning)} |"
        yield ""


def _row(name: str, where: str, kind: str, meaning: str) -> str:
    return f"| `{name}` | {where} | {kind} | {_cell(meaning)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _type(schema: Schema) -> str:
    """Say in words what a value may be."""
    return next(say(schema) for key, say in _SAY if key in schema)


def _list(schema: Schema) -> str:
    return "pair of texts" if "prefixItems" in schema else f"list: {_type(schema['items'])}"


def _plain(schema: Schema) -> str:
    if schema.get("format") == "date-time":
        return "time"
    return _TYPES.get(schema["type"], f"`{schema['type']}`")


_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
#: What a schema has → how to say it; the first that it has counts.
_SAY: tuple[tuple[str, Callable[[Schema], str]], ...] = (
    ("$ref", lambda schema: _link(schema["$ref"])),
    ("anyOf", lambda schema: " or ".join(map(_type, schema["anyOf"]))),
    ("enum", lambda schema: " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])),
    ("items", _list),
    ("additionalProperties", lambda schema: f"object: {_type(schema['additionalProperties'])} by name"),
    ("maximum", lambda schema: f"whole number, {schema['minimum']} to {schema['maximum']}"),
    ("type", _plain),
)


def _refs(schema: Schema) -> list[str]:
    return [one["$ref"] for one in schema.get("anyOf", [schema])]


def _link(ref: str) -> str:
    name = ref.removeprefix(REFERENCE)
    return f"[{name}](#{name.lower()})"


def _resolve(made: dict[str, Any], ref: str) -> Schema:
    found: Schema = made["components"]["schemas"][ref.removeprefix(REFERENCE)]
    return found


def main() -> None:
    """Print the page."""
    sys.stdout.write(page())


if __name__ == "__main__":
    main()
