"""Finds the operator listener of the running gateway, and the token for it.

It reads only the section `operator` of the config file. Loading and validating the whole file takes several
times longer than a request.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from gatehouse.config.location import config_file, read_text
from gatehouse.config.secrets import SecretError, SecretRef, Secrets
from gatehouse.errors import ConfigError, GatewayError

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.config.load import LoadedConfig

#: The token for `--operator URL`, if the config names none or there is no config file.
TOKEN_VARIABLE = "GATEHOUSE_OPERATOR_TOKEN"  # noqa: S105 - the name of a variable
_DEFAULT_LISTEN = "127.0.0.1:9090"
_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):([0-9]{1,5})")
#: Hosts that stand for every address of the machine. A client can't connect to them everywhere.
_WILDCARDS = ("", "0.0.0.0", "[::]")  # noqa: S104


class Access(NamedTuple):
    """How to reach the operator listener of a gateway."""

    #: The URL without a path.
    url: str
    #: None when the config names no token.
    token: str | None


class _Operator(NamedTuple):
    listen: str
    #: The path in the config and the reference of each token: those with the role `operate` come first.
    tokens: list[tuple[str, SecretRef]]


class _UnclearError(Exception):
    """Something in the section is not as expected, so the file must be loaded completely."""


def find_access(config: str | None, url: str | None) -> Access:
    """Return how to reach the gateway of a config, or the one at `url`. Raises `GatewayError`.

    With a URL, the config file may be absent, or be that of another gateway: someone on another machine has
    a token, but not the config.
    """
    file = config_file(config)
    try:
        text = read_text(file)
    except ConfigError:
        if url is None or config is not None or file.exists():
            raise
        return _access(_Operator(_DEFAULT_LISTEN, []), file.parent, url)
    try:
        operator = _operator(text)
    except _UnclearError:
        # This reports the problems of the file. Without any, the section was only written unusually.
        from gatehouse.config.load import load

        return access_of(load(file), url)
    return _access(operator, file.absolute().parent, url)


def access_of(loaded: LoadedConfig, url: str | None) -> Access:
    """Return how to reach the gateway of a loaded config, or the one at `url`. Raises `GatewayError`."""
    settings = loaded.config.operator
    tokens = [("operator.token", settings.token)] if settings.token else []
    listed = [(f"operator.tokens.{index}.token", one) for index, one in enumerate(settings.tokens)]
    listed.sort(key=lambda place: place[1].role != "operate")
    tokens += [(path, one.token) for path, one in listed]
    return _access(_Operator(str(settings.listen), tokens), loaded.directory, url)


def _access(operator: _Operator, directory: Path, url: str | None) -> Access:
    token = _token(operator, Secrets(directory))
    if url is None:
        return Access(_listen_url(operator.listen), token)
    return Access(url.rstrip("/"), token or os.environ.get(TOKEN_VARIABLE) or None)


def _operator(text: bytes) -> _Operator:
    """Read the section `operator` of a config file. Raises `_UnclearError`."""
    import yaml

    # The parser in C is many times faster. Both return every scalar as text.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        data = yaml.load(text.decode("utf-8-sig"), Loader=loader)  # noqa: S506 - creates only text and lists
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _UnclearError from error
    section = data.get("operator", {}) if isinstance(data, dict) else None
    if not isinstance(section, dict):
        raise _UnclearError
    listed = section.get("tokens", [])
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise _UnclearError
    places = sorted(enumerate(listed), key=lambda place: place[1].get("role") != "operate")
    tokens = [("operator.token", _reference(section["token"]))] if "token" in section else []
    tokens += [(f"operator.tokens.{index}.token", _reference(one.get("token"))) for index, one in places]
    listen = section.get("listen", _DEFAULT_LISTEN)
    if not isinstance(listen, str) or not _LISTEN.fullmatch(listen):
        raise _UnclearError
    return _Operator(listen, tokens)


def _reference(value: Any) -> SecretRef:  # noqa: ANN401 - any part of a config
    reference = SecretRef.parse(value) if isinstance(value, str) else None
    if reference is None:
        raise _UnclearError
    return reference


def _listen_url(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    if int(port) == 0:
        raise GatewayError(
            "the config's operator listener takes any free port",
            hint="pass its URL with --operator http://host:port",
        )
    return f"http://{'127.0.0.1' if host in _WILDCARDS else host}:{port}"


def _token(operator: _Operator, secrets: Secrets) -> str | None:
    """Return the first token that is set here. Raises `GatewayError` if there are tokens but none is set."""
    problems: list[str] = []
    for path, reference in operator.tokens:
        try:
            return secrets.resolve(reference).decode("utf-8", "surrogateescape")
        except SecretError as error:
            problems.append(f"{path}: {error}")
    if problems:
        raise GatewayError(problems[0], hint="set the token where this command runs")
    return None
