"""Searches for a change to the config, the secrets or the request with which a refused request verifies.

The number of changes is limited. The verifiers themselves test each change.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from gatehouse.config.model import (
    EbayConfig,
    EcdsaConfig,
    Ed25519Config,
    JwtConfig,
    RsaConfig,
    SigningConfig,
    TwilioConfig,
)
from gatehouse.diagnosis.combined_bodies import combined_bodies
from gatehouse.diagnosis.config_changes import config_changes, secret_changes
from gatehouse.diagnosis.finding import Finding, keys, plain, secrets_key
from gatehouse.diagnosis.observations import about_credentials, about_digest, about_signature_form
from gatehouse.diagnosis.request_variants import other_addresses, other_bodies
from gatehouse.diagnosis.signature_headers import ebay_key_id
from gatehouse.diagnosis.wording import does_not_match, listed, matches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.config.model import VerifyEntry
    from gatehouse.diagnosis.known import KnownSource, KnownVerifier
    from gatehouse.diagnosis.observations import SignedTime
    from gatehouse.errors import Reason
    from gatehouse.language.request import Request

#: Schemes whose secrets are public keys.
_ASYMMETRIC = (EbayConfig, EcdsaConfig, Ed25519Config, RsaConfig)
#: Pairs of config changes are tried on bodies up to this length in bytes, because there may be hundreds.
_MAX_LENGTH_FOR_PAIRS = 64 * 1024


class Refusal(NamedTuple):
    """A request that one verifier of a source refused."""

    verifier: KnownVerifier
    reason: Reason
    #: What the verifier reads: the whole request, or a request whose body is one element of a batch.
    request: Request
    whole_request: Request
    source: KnownSource
    #: The other sources. Their secrets are tried too.
    others: Sequence[KnownSource]
    #: When the request was refused (Unix seconds).
    now: float
    signed_time: SignedTime | None
    #: Whether other elements of the same body verify, so that the secret must be right.
    is_secret_right: bool = False


def explain_signature(refusal: Refusal) -> Iterator[Finding]:
    """Name the change with which the request verifies. Without one, name what is known of the mismatch."""
    refusal = refusal._replace(verifier=refusal.verifier.without_age_limit())
    for search in (_other_sources, _one_change, _two_changes, _combined_bodies):
        found = next(search(refusal), None)
        if found is not None:
            yield found
            return
    verifier = refusal.verifier
    yield from about_signature_form(verifier, refusal.request)
    yield from about_credentials(verifier, refusal.request)
    digest = about_digest(refusal.whole_request)
    if digest:
        yield digest.finding
    if verifier.secrets and not refusal.is_secret_right and not (digest and digest.is_changed):
        yield _mismatch(verifier, refusal.request, is_body_proved=digest is not None)


def _mismatch(verifier: KnownVerifier, request: Request, *, is_body_proved: bool) -> Finding:
    """Say that no secret matches, and what to compare."""
    kind = "public key" if isinstance(verifier.entry, _ASYMMETRIC) else "secret"
    names = [f"`{reference}`" for reference in verifier.references]
    which = f"the {kind} {names[0]}"
    if len(names) > 1:
        which = f"any of the {len(names)} {kind}s ({listed(names)})"
    compare = _comparison(verifier.entry, kind, request)
    finding = Finding(f"{does_not_match(verifier.entry)} {which}. {compare}.", change=secrets_key(verifier))
    if is_body_proved or not _covers_body(verifier.entry):
        return finding
    text = (
        f"{does_not_match(verifier.entry)} {which}. Either the {kind} is wrong, or the body was changed on "
        f"the way. {compare}, and check that no proxy in front of Gatehouse changes bodies."
    )
    return finding._replace(text=text, certain=False)


def _comparison(entry: VerifyEntry, kind: str, request: Request) -> str:
    """Say what to compare the secret with, without a full stop."""
    kid = ebay_key_id(request.headers.get("X-EBAY-SIGNATURE", "")) if isinstance(entry, EbayConfig) else None
    if kid:
        return f"Compare it with the key that eBay's getPublicKey returns for the key ID (kid) {kid}"
    return f"Compare the {kind} with the one that the provider shows for this account and mode (test or live)"


def _covers_body(entry: VerifyEntry) -> bool:
    """Return whether a signature of this scheme covers bytes of the body."""
    if not isinstance(entry, SigningConfig):
        return isinstance(entry, TwilioConfig | EbayConfig | JwtConfig)
    return any(part.name.startswith(("body", "item_", "form")) for part in entry.signed.placeholders)


def explain_other_sources(refusal: Refusal) -> Iterator[Finding]:
    """Name the other sources for which the request verifies."""
    for other in refusal.others:
        if other.accepts(refusal.whole_request, refusal.now):
            yield Finding(
                f"The request verifies for the source {other.name}. Enter the address of {other.name}, not "
                f"of {refusal.source.name}, at its provider.",
                expected=f"the address of {other.name}",
                received=f"the address of {refusal.source.name}",
            )


def _other_sources(refusal: Refusal) -> Iterator[Finding]:
    verifier, name = refusal.verifier, refusal.source.name
    for other in refusal.others:
        for theirs in other.each_verifier():
            is_comparable = theirs.entry.type == verifier.entry.type and theirs.secrets
            if is_comparable and verifier._replace(secrets=theirs.secrets).accepts(
                refusal.request, refusal.now
            ):
                yield Finding(
                    f"{matches(verifier.entry)} a secret of the source {other.name}. Either the request was "
                    f"sent to {name} by mistake, or the secrets of the two sources are swapped.",
                    expected=f"a secret of {name}",
                    received=f"a secret of {other.name}",
                )
    yield from explain_other_sources(refusal)


def _one_change(refusal: Refusal) -> Iterator[Finding]:
    verifier, request, now = refusal.verifier, refusal.request, refusal.now
    start = matches(verifier.entry)
    for change in config_changes(verifier.entry, request):
        if verifier._replace(entry=change.applied(verifier.entry)).accepts(request, now):
            yield Finding(
                f"{start} with {change.new}, not with {change.old}. {_change(verifier, change.new)}",
                expected=plain(change.old),
                received=plain(change.new),
                change=keys(verifier.path, change.new),
            )
    for secret in secret_changes(verifier):
        if verifier._replace(secrets=(secret.secret,)).accepts(request, now):
            change_of_secret = secrets_key(verifier, [secret.reference])
            yield Finding(f"{start} if {secret.condition}. {secret.advice}", change=change_of_secret)
    for variant in (*other_bodies(request, refusal.source.max_body), *other_addresses(request)):
        if verifier.accepts(variant.request, now):
            finding = Finding(f"{start} if {variant.condition}. {variant.advice}")
            yield _with_address(finding, variant.request, request)


def _with_address(finding: Finding, variant: Request, request: Request) -> Finding:
    """Add what differs between the address of the request and that of a variant of it."""
    if variant.public_url != request.public_url:
        return finding._replace(
            expected=f"server.public_url: {request.public_url or 'not set'}",
            received=f"signed for {variant.public_url}",
            change=f"server.public_url: {variant.public_url}",
        )
    return finding


def _change(verifier: KnownVerifier, new: str) -> str:
    keys = "these keys" if " and " in new else "this key"
    return f"Change {keys} in `{verifier.path}`."


def _two_changes(refusal: Refusal) -> Iterator[Finding]:
    verifier, request = refusal.verifier, refusal.request
    if len(request.body) > _MAX_LENGTH_FOR_PAIRS:
        return
    for first, second in combinations(config_changes(verifier.entry, request), 2):
        if first.kind != second.kind:
            entry = second.applied(first.applied(verifier.entry))
            if verifier._replace(entry=entry).accepts(request, refusal.now):
                yield Finding(
                    f"{matches(verifier.entry)} with {first.new} and {second.new}, not with {first.old} and "
                    f"{second.old}. Change these keys in `{verifier.path}`.",
                    expected=plain(f"{first.old} and {second.old}"),
                    received=plain(f"{first.new} and {second.new}"),
                    change=keys(verifier.path, f"{first.new} {second.new}"),
                )


def _combined_bodies(refusal: Refusal) -> Iterator[Finding]:
    verifier = refusal.verifier
    if not _covers_body(verifier.entry):
        return
    accepts = verifier.acceptance_check(refusal.now)
    for variant in combined_bodies(refusal.request):
        if accepts(variant.request):
            yield Finding(f"{matches(verifier.entry)} if {variant.condition}. {variant.advice}")
