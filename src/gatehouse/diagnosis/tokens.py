"""Why a token (`type: jwt`) was refused. The texts name keys of the config, and no value of the token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.diagnosis.finding import Finding
from gatehouse.diagnosis.wording import listed

if TYPE_CHECKING:
    from gatehouse.config.model import JwtConfig


def about_other_receiver(entry: JwtConfig, path: str) -> Finding:
    """Name the keys that a token with the wrong credentials does not fit."""
    keys = [f"`{one}`" for one in ("issuer", "audience", "claims") if getattr(entry, one)]
    keys += ["`certificates.roots`"] if entry.certificates else []
    return Finding(
        f"The token is for another receiver or from another issuer. It does not fit {' or '.join(keys)} in "
        f"`{path}`. Compare them with the account at the provider.",
        expected="a token for this source",
        received="a token for another receiver, or from another issuer",
        change=path,
    )


def about_token_times(entry: JwtConfig, path: str) -> Finding:
    """Name the times of a token, one of which is missing, malformed, too old or in the future."""
    times = [f"`{name}`" for name in ("exp", "nbf", entry.issued.claim)]
    unit = "milliseconds" if entry.issued.unit == "ms" else "seconds"
    limit = (
        "" if entry.max_age is None else f", and `{entry.issued.claim}` is required because `max_age` is set"
    )
    return Finding(
        f"A time of the token does not fit `{path}`: it is too old, in the future, missing or malformed. The "
        f"gateway checks {listed(times)} (`{entry.issued.claim}` in {unit}){limit}. Compare the clocks, and "
        "check whether the request is an old one.",
        change=path,
    )


def about_certificates(path: str) -> Finding:
    """Say what a token with certificates needs, because its signature or its certificates are wrong."""
    return Finding(
        "The token does not match, or its certificates are not trusted. They must lead to the root, they "
        "must have been valid when the token was signed, and they must have the extensions that "
        f"`{path}.certificates` names.",
        change=f"{path}.certificates",
    )
