"""Compares presets with the providers' own libraries: each accepts what the other signs."""

from __future__ import annotations

import base64
import json
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
import pytest
from Adyen.util import (  # type: ignore[import-untyped]
    generate_notification_sig,
    is_valid_hmac_notification,
    is_valid_hmac_payload,
)
from gocardless_pro import webhooks as gocardless  # type: ignore[import-untyped]
from mercadopago.webhook.validator import WebhookSignatureValidator  # type: ignore[import-untyped]
from multidict import CIMultiDict
from pyairtable.models.webhook import WebhookNotification
from standardwebhooks import Webhook as StandardWebhook
from svix.webhooks import Webhook as SvixWebhook

from gatehouse.config.presets import shipped_preset
from gatehouse.errors import VerificationError
from gatehouse.ingest.source import Source
from gatehouse.language.request import Request
from gatehouse.language.scope import Scope
from gatehouse.samples.sample import documented_sample, sign_sample, tampered, with_new_ids
from presets import FILES, made_secrets, source

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it uses its own deprecated names
    import braintree  # type: ignore[import-untyped]

PUBLIC_KEY = "integration_public_key"


class Judge(NamedTuple):
    """A library, and how to call it."""

    #: Raises or returns a false value if the request is not genuine.
    accepts: Callable[[Request, str], Any]
    #: The query that the provider sends.
    query: str = ""


def svix(request: Request, secret: str) -> bool:
    SvixWebhook(secret).verify(request.body, dict(request.headers))
    return True


def standard(request: Request, secret: str) -> Any:
    return StandardWebhook(secret).verify(request.body, dict(request.headers))


def by_gocardless(request: Request, secret: str) -> Any:
    return gocardless.parse(request.body.decode(), secret, request.headers["Webhook-Signature"])


def by_airtable(request: Request, secret: str) -> Any:
    return WebhookNotification.from_request(
        request.body.decode(), request.headers["X-Airtable-Content-MAC"], secret
    )


def by_adyen(request: Request, secret: str) -> Any:
    return is_valid_hmac_notification(json.loads(request.body), secret)


def by_adyen_in_the_header(request: Request, secret: str) -> Any:
    return is_valid_hmac_payload(request.headers["HmacSignature"], secret, request.body)


def by_bigcommerce(request: Request, secret: str) -> Any:
    """Call the library as BigCommerce's page does: encode the client secret, which it decodes again."""
    return standard(request, base64.b64encode(secret.encode()).decode())


def by_mercado_pago(request: Request, secret: str) -> bool:
    WebhookSignatureValidator.validate(
        request.headers["x-signature"],
        request.headers.get("x-request-id"),
        Scope(request).query.get("data.id"),
        secret,
    )
    return True


def by_braintree(request: Request, secret: str) -> Any:
    form = Scope(request).form
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return gateway(secret).webhook_notification.parse(form["bt_signature"], form["bt_payload"])


def gateway(secret: str) -> Any:
    return braintree.BraintreeGateway(
        braintree.Configuration(
            environment=braintree.Environment.Sandbox,
            merchant_id="integration_merchant_id",
            public_key=PUBLIC_KEY,
            private_key=secret,
        )
    )


JUDGES = {
    "adyen": Judge(by_adyen),
    "adyen-platform": Judge(by_adyen_in_the_header),
    "airtable": Judge(by_airtable),
    "bigcommerce": Judge(by_bigcommerce),
    "brex": Judge(standard),
    "clerk": Judge(svix),
    "etsy": Judge(svix),
    "gitlab-signed": Judge(standard),
    "gocardless": Judge(by_gocardless),
    "incident-io": Judge(svix),
    "loops": Judge(standard),
    "mercado-pago": Judge(by_mercado_pago, query="data.id=123456&type=payment"),
    "standard-webhooks": Judge(standard),
    "svix": Judge(svix),
}
#: The libraries that read no clock and check the whole request.
CLOCKLESS = ("adyen-platform", "airtable", "gocardless", "mercado-pago")
each_judge = pytest.mark.parametrize(("preset", "judge"), JUDGES.items(), ids=JUDGES)


def request_of(of: Source, preset: str, judge: Judge) -> Request:
    settings = shipped_preset(preset)
    sample = with_new_ids(documented_sample(settings) or pytest.fail("no sample"), settings)
    return sign_sample(of, sample, time.time(), query=judge.query)


@each_judge
def test_the_providers_library_accepts_what_the_preset_signs(preset: str, judge: Judge) -> None:
    secrets = made_secrets(shipped_preset(preset))
    request = request_of(source(preset, secrets), preset, judge)

    assert judge.accepts(request, secrets[0])


@each_judge
def test_the_providers_library_refuses_what_the_preset_refuses(preset: str, judge: Judge) -> None:
    secrets = made_secrets(shipped_preset(preset))
    of = source(preset, secrets)
    genuine = request_of(of, preset, judge)
    changed = msgspec.structs.replace(genuine, body=tampered(genuine.body))
    if preset == "mercado-pago":  # the scheme does not sign the body
        changed = msgspec.structs.replace(genuine, query=genuine.query.replace("123456", "123457"))
    if preset == "adyen":  # the scheme signs only parts of it
        changed = msgspec.structs.replace(genuine, body=genuine.body.replace(b"1130", b"1131"))

    with pytest.raises(VerificationError):
        of.verification.verify(changed, time.time())
    assert not accepted(judge, changed, secrets[0])


def accepted(judge: Judge, request: Request, secret: str) -> bool:
    try:
        return bool(judge.accepts(request, secret))
    except Exception as error:  # noqa: BLE001 - each library has its own
        return error is None


@pytest.mark.parametrize(
    ("preset", "number"),
    [
        (preset, number)
        for preset in CLOCKLESS
        for number, vector in enumerate(FILES[preset].vectors)
        if vector.proof != "hand"
    ],
)
def test_the_providers_library_agrees_on_each_vector(preset: str, number: int) -> None:
    vector = FILES[preset].vectors[number]

    assert accepted(JUDGES[preset], vector.request(), vector.secrets[0]) == (vector.refused is None)


def test_braintree_and_the_preset_accept_each_others_requests_with_and_without_the_final_line_break() -> None:
    secrets = made_secrets(shipped_preset("braintree"))
    of = source("braintree", secrets, values={"public_key": PUBLIC_KEY})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        form = gateway(secrets[0]).webhook_testing.sample_notification("subscription_canceled", "my_id")
    whole = form["bt_payload"].decode()
    assert whole.endswith("\n")
    keys: list[set[bytes]] = []
    for payload in (whole, whole.removesuffix("\n")):
        request = posted({**form, "bt_payload": payload})
        by_braintree(request, secrets[0])
        verified = of.verification.verify(request, time.time())
        keys.append({key.scoped for _, found, _ in of.reader.read(verified, 0, ()) for key in found if key})

    assert keys[0] & keys[1], "a changed line break must not turn a captured request into a second event"
    without_a_line = posted({**form, "bt_payload": whole[:-2]})
    with pytest.raises(VerificationError):
        of.verification.verify(without_a_line, time.time())


def posted(form: dict[str, str]) -> Request:
    headers = CIMultiDict({"Content-Type": "application/x-www-form-urlencoded"})
    return Request(
        "POST", "/webhooks/it", "", headers, urlencode(form).encode(), "https://gateway.example", ""
    )


def test_the_preset_accepts_what_adyens_library_signs() -> None:
    secrets = made_secrets(shipped_preset("adyen"))
    item = {
        "pspReference": "7914073381342284",
        "merchantAccountCode": "Shop:1\\2",
        "merchantReference": "order 1, café",
        "amount": {"value": 1130, "currency": "EUR"},
        "eventCode": "REFUND",
        "success": "true",
    }
    signature = generate_notification_sig(item, secrets[0]).decode()
    body = {
        "live": "false",
        "notificationItems": [
            {"NotificationRequestItem": item | {"additionalData": {"hmacSignature": signature}}}
        ],
    }
    request = Request("POST", "/webhooks/it", "", CIMultiDict(), json.dumps(body).encode(), "", "")

    source("adyen", secrets).verification.verify(request, time.time())


@pytest.mark.parametrize(
    ("preset", "names"),
    [
        ("clerk", "svix"),
        ("clerk", "webhook"),
        ("svix", "svix"),
        ("svix", "webhook"),
        ("incident-io", "webhook"),
    ],
)
def test_the_preset_accepts_what_svix_signs(preset: str, names: str) -> None:
    secrets = made_secrets(shipped_preset(preset))
    now = int(time.time())
    body = '{"event_type": "it", "type": "it", "data": {"id": "é"}}'
    moment = datetime.fromtimestamp(now, tz=UTC)
    headers = {
        f"{names}-id": "msg_1",
        f"{names}-timestamp": str(now),
        f"{names}-signature": SvixWebhook(secrets[0]).sign("msg_1", moment, body),
    }
    request = Request("POST", "/webhooks/it", "", CIMultiDict(headers), body.encode(), "", "")

    source(preset, secrets).verification.verify(request, now)
