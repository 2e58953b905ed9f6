"""The rules of the layout: which modules may import which, and what no file may contain."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gatehouse

SRC = Path(__file__).parents[1] / "src"
PACKAGE = SRC / "gatehouse"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: Policy and language: no I/O.
PURE = (
    *("language", "events", "config", "diagnosis", "store/base.py", "store/accepting.py"),
    "verify",
    *(
        "ingest/pipeline.py",
        "ingest/committer.py",
        "ingest/answer.py",
        "ingest/handshakes.py",
        "ingest/relay.py",
    ),
    "samples",
    *("delivery/retry.py", "delivery/breaker.py", "delivery/throttle.py", "delivery/backlog.py"),
    *("delivery/pacing.py", "delivery/concurrency_limit.py", "store/operations.py"),
    *(
        "telemetry/live.py",
        "telemetry/buckets.py",
        "telemetry/history.py",
        "operator/stream/wanted.py",
        "operator/stream/entries.py",
        "operator/stream/view.py",
        "operator/attention.py",
        "operator/page/advice.py",
        "operator/page/day.py",
        "operator/page/series.py",
        "operator/page/states.py",
    ),
    *("delivery/intake.py", "delivery/reply_head.py", "delivery/outcome.py", "delivery/destination.py"),
)
#: The one module in a pure package that makes requests.
FETCHES = ("verify/remote_keys.py",)
DRIVERS = {"aiohttp", "aiosqlite", "sqlite3", "asyncpg"}


def imports(file: Path) -> Iterator[str]:
    """Name every module that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def within(*places: str) -> list[Path]:
    return [
        file
        for file in MODULES
        if any(file == PACKAGE / place or PACKAGE / place in file.parents for place in places)
    ]


def name(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


@pytest.mark.parametrize("file", sorted({*within(*PURE)} - {*within(*FETCHES)}), ids=name)
def test_pure_modules_import_neither_http_nor_a_database_driver(file: Path) -> None:
    assert not {module.partition(".")[0] for module in imports(file)} & DRIVERS


@pytest.mark.parametrize("place", PURE)
def test_every_pure_module_exists(place: str) -> None:
    assert within(place)


@pytest.mark.parametrize(
    "file", [file for file in MODULES if PACKAGE / "store" not in file.parents], ids=name
)
def test_only_the_store_knows_sql(file: Path) -> None:
    assert not {module.partition(".")[0] for module in imports(file)} & {"sqlite3", "aiosqlite", "asyncpg"}


#: The packages as the package's docstring lists them, from the top down.
PACKAGES = re.findall(r"^    (\w+)/ {2,}\S", gatehouse.__doc__ or "", re.MULTILINE)
#: The modules above and below all packages.
LOOSE = {"__init__.py", "__main__.py", "errors.py"}


def module(file: Path) -> str:
    return ".".join(file.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


def graph() -> dict[str, set[str]]:
    """Return the modules of the package that each module imports, anywhere and for any purpose."""
    known = {module(file) for file in MODULES}
    found: dict[str, set[str]] = {}
    for file in MODULES:
        named = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                named |= {one if one in known else node.module for one in inside}
            elif isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
        found[module(file)] = (named & known) - {module(file), "gatehouse"}
    return found


def cycles(edges: dict[str, set[str]]) -> list[str]:
    """Remove modules that import no remaining module. All others are in a cycle or lead to one."""
    left = {one: set(others) for one, others in edges.items()}
    while free := [one for one, others in left.items() if not others & left.keys()]:
        for one in free:
            del left[one]
    return sorted(left)


def test_no_import_cycle_exists() -> None:
    assert cycles(graph()) == []


def test_an_import_cycle_would_be_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


def package(of: str) -> str:
    return of.split(".")[1]


def test_each_package_imports_only_from_packages_below_it() -> None:
    rank = {name: number for number, name in enumerate(("__main__", *PACKAGES, "errors"))}
    upward = [
        f"{one} -> {other}"
        for one, others in graph().items()
        for other in others
        if one != "gatehouse" and rank[package(one)] > rank[package(other)]
    ]

    assert upward == []


def test_the_map_in_the_docstring_names_every_package_and_existing_files() -> None:
    assert sorted(PACKAGES) == sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    way = re.findall(r"^ +(\w+(?:/\w+)+) {2,}\S", gatehouse.__doc__ or "", re.MULTILINE)
    assert len(way) in range(8, 14)
    assert [place for place in way if not (PACKAGE / f"{place}.py").is_file()] == []


def test_the_top_folder_contains_no_unexpected_module() -> None:
    assert {path.name for path in PACKAGE.glob("*.py")} == LOOSE


OUTERMOST = within("cli", "demo", "gateway/app.py", "__main__.py")


@pytest.mark.parametrize("file", [file for file in MODULES if file not in OUTERMOST], ids=name)
def test_only_the_command_line_imports_the_composition_root(file: Path) -> None:
    modules = set(imports(file))

    assert "gatehouse.gateway.app" not in modules
    assert not any(module.startswith("gatehouse.cli") for module in modules)


@pytest.mark.parametrize("file", within("gateway", "operator", "workers"), ids=name)
def test_a_gateway_loads_samples_only_when_it_sends_one(file: Path) -> None:
    at_start = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ImportFrom)]

    assert not [node.module for node in at_start if (node.module or "").startswith("gatehouse.samples")]


#: The modules that compare secrets in constant time. The demo's app plays the role of another program.
COMPARES = within("verify/base.py", "demo/app.py")
#: Names of values that a request presents as proof, and of the values that they must equal.
SECRET_NAME = re.compile(
    r"(secret|token|password|credential|signature|expected|given|claimed|hmac|mac|hexdigest)s?"
)
HANDLES_SECRETS = within("verify", "ingest", "delivery", "store", "events", "operator/server.py")


@pytest.mark.case("S-04")
@pytest.mark.parametrize("file", MODULES, ids=name)
def test_secrets_are_compared_in_one_place(file: Path) -> None:
    assert ("compare_digest" in file.read_text()) == (file in COMPARES)


#: Methods whose result is as secret as their input.
KEEPS_SECRET = ("encode", "decode", "digest", "strip")


def ends_in(node: ast.AST) -> str:
    """Return the last name of an operand: that of `self._tokens[0].encode()` is `tokens`."""
    while isinstance(node, ast.Subscript | ast.Call) or (
        isinstance(node, ast.Attribute) and node.attr in KEEPS_SECRET
    ):
        node = node.func if isinstance(node, ast.Call) else node.value
    found = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return found.strip("_").rpartition("_")[2]


def plain_comparisons(tree: ast.AST) -> Iterator[str]:
    """Find comparisons of secrets by an operator. Their duration reveals how much of a guess is right."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(
            isinstance(operator, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for operator in node.ops
        ):
            operands = {ends_in(operand) for operand in (node.left, *node.comparators)}
            if any(SECRET_NAME.fullmatch(operand) for operand in operands):
                yield ast.unparse(node)


@pytest.mark.case("S-04")
@pytest.mark.parametrize("file", HANDLES_SECRETS, ids=name)
def test_no_secret_is_compared_by_an_operator(file: Path) -> None:
    assert list(plain_comparisons(ast.parse(file.read_text()))) == []


@pytest.mark.case("S-04")
@pytest.mark.parametrize(
    "source",
    [
        *("given == expected", "x in self._tokens", "self._secret != x", "header[7:] == token.decode()"),
        *("hmac.digest(key, body, 'sha256') == x", "mac.hexdigest() == x", "x not in config.secrets"),
    ],
)
def test_such_a_comparison_would_be_found(source: str) -> None:
    assert list(plain_comparisons(ast.parse(source))) == [source]


#: Types that msgspec does not keep anything for.
SIMPLE = {"Any", "None", "Raw", "bool", "bytes", "dict", "float", "int", "list", "msgspec", "str", "tuple"}
DECODING = {
    *("msgspec.json.decode", "msgspec.json.Decoder", "msgspec.convert"),
    *("msgspec.msgpack.decode", "msgspec.msgpack.Decoder"),
}


def decoded_types(*trees: ast.AST) -> Iterator[str]:
    """Name every type that msgspec decodes in this code."""
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Call) and (function := ast.unparse(node.func)) in DECODING:
            by_position = node.args[:1] if function.endswith("Decoder") else node.args[1:2]
            by_name = (given.value for given in node.keywords if given.arg == "type")
            parts = [part for kind in (*by_position, *by_name) for part in ast.walk(kind)]
            yield from (part.id for part in parts if isinstance(part, ast.Name))
            yield from (part.attr for part in parts if isinstance(part, ast.Attribute))


def prepared_late(module: ast.Module) -> set[str]:
    """Name the types that msgspec decodes in functions, and that the module does not prepare."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    at_import = [node for node in module.body if not isinstance(node, functions)]
    return {*decoded_types(module)} - {*decoded_types(*at_import)} - SIMPLE


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_a_decoder_of_the_module_prepares_each_type_that_msgspec_decodes(file: Path) -> None:
    # msgspec prepares a type at its first use. Before 0.23, the process crashed if a second thread used the
    # type meanwhile. Modules are imported by one thread.
    assert prepared_late(ast.parse(file.read_text())) == set()


@pytest.mark.parametrize(
    "source",
    [
        "def f(): msgspec.json.decode(x, type=Query | None)",
        "def f(): msgspec.convert(x, list[records.Query])",
        "class C:\n def f(): msgspec.json.Decoder(Query)",
    ],
)
def test_a_type_that_is_prepared_late_would_be_found(source: str) -> None:
    assert "Query" in prepared_late(ast.parse(source))
    assert "Query" not in prepared_late(ast.parse(f"decode = msgspec.json.Decoder(Query).decode\n{source}"))


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_every_module_says_what_it_is_for(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text()))


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_no_module_or_function_is_too_long_to_be_read(file: Path) -> None:
    text = file.read_text()

    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or node.lineno) - node.lineno < 60, node.name


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_no_module_has_a_catch_all_name(file: Path) -> None:
    assert file.stem not in {"utils", "util", "helpers", "core", "manager", "common", "misc"}


#: The modules that turn text of a request into bytes, and what else they encode: our own JSON and hex digits.
READS_REQUESTS = within(
    "verify",
    "language/scope.py",
    "language/placeholders.py",
    "ingest/handshakes.py",
    "operator/server.py",
    "diagnosis/observations.py",
    "diagnosis/signature_headers.py",
)
OUR_OWN = re.compile(
    r"msgspec\.json|json\.dumps\(.*|.*\.hexdigest\(\)|raw\.hex\(\)\.upper\(\)|python\.decode\(.unicode_escape.\)"
)


@pytest.mark.case("F-60")
@pytest.mark.parametrize("file", READS_REQUESTS, ids=name)
def test_text_of_a_request_becomes_bytes_in_one_way(file: Path) -> None:
    encoders = [
        ast.unparse(node.func.value)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "encode"
    ]

    assert [of for of in encoders if not OUR_OWN.fullmatch(of)] == []
