"""Compares presets with the libraries of the providers from N to Z. See `test_judges`."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import parse_qs

import msgspec
import pytest
import razorpay  # type: ignore[import-untyped]
import resend
import stripe
from polar import webhooks as polar
from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook as StandardWebhook
from svix.webhooks import Webhook as SvixWebhook
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from workos.webhooks._verification import verify_header

from gatehouse.config.presets import shipped_preset
from gatehouse.errors import VerificationError
from gatehouse.language.request import Request
from gatehouse.samples.sample import documented_sample, sign_sample, tampered, with_new_ids
from presets import FILES, made_secrets, source

#: Raises or returns a false value if the request is not genuine.
Judge = Callable[[Request, str], object]


def standard(request: Request, secret: str) -> bool:
    StandardWebhook(secret).verify(request.body, dict(request.headers))
    return True


def svix(request: Request, secret: str) -> bool:
    SvixWebhook(secret).verify(request.body, dict(request.headers))
    return True


def by_polar(request: Request, secret: str) -> bool:
    polar.validate_event(request.body, dict(request.headers), secret, frozenset({"customer.created"}), dict)
    return True


def by_razorpay(request: Request, secret: str) -> object:
    signature = request.headers["X-Razorpay-Signature"]
    return razorpay.Utility().verify_webhook_signature(request.body.decode(), signature, secret)


def by_resend(request: Request, secret: str) -> bool:
    headers = {name: request.headers[f"svix-{name}"] for name in ("id", "timestamp", "signature")}
    options = {"payload": request.body.decode(), "headers": headers, "webhook_secret": secret}
    return bool(resend.Webhooks.verify(options))  # type: ignore[arg-type]


def by_slack(request: Request, secret: str) -> bool:
    return bool(SignatureVerifier(secret).is_valid_request(request.body, dict(request.headers)))


def by_stripe(request: Request, secret: str) -> bool:
    signature = request.headers["Stripe-Signature"]
    return bool(stripe.WebhookSignature.verify_header(request.body.decode(), signature, secret, 300))


def by_twilio(request: Request, secret: str) -> bool:
    url = f"{request.public_url}{request.path}" + (f"?{request.query}" if request.query else "")
    fields = {name: values[0] for name, values in fields_of(request).items()}
    given = request.headers["X-Twilio-Signature"]
    return bool(RequestValidator(secret).validate(url, fields, given))


def fields_of(request: Request) -> dict[str, list[str]]:
    return parse_qs(request.body.decode(), keep_blank_values=True)


def by_workos(request: Request, secret: str) -> bool:
    verify_header(event_body=request.body, event_signature=request.headers["WorkOS-Signature"], secret=secret)
    return True


JUDGES: dict[str, Judge] = {
    "openai": standard,
    "polar": by_polar,
    "razorpay": by_razorpay,
    "render": standard,
    "replicate": standard,
    "resend": by_resend,
    "slack": by_slack,
    "stripe": by_stripe,
    "stytch": svix,
    "supabase": standard,
    "twilio": by_twilio,
    "vanta": svix,
    "workos": by_workos,
}
each_judge = pytest.mark.parametrize(("preset", "judge"), JUDGES.items(), ids=JUDGES)


def request_of(preset: str, secret: str) -> Request:
    settings = shipped_preset(preset)
    sample = with_new_ids(documented_sample(settings) or pytest.fail("no sample"), settings)
    return sign_sample(source(preset, [secret]), sample, time.time())


@each_judge
def test_the_providers_library_accepts_what_the_preset_signs(preset: str, judge: Judge) -> None:
    (secret,) = made_secrets(shipped_preset(preset))

    assert judge(request_of(preset, secret), secret)


@each_judge
def test_the_providers_library_refuses_what_the_preset_refuses(preset: str, judge: Judge) -> None:
    (secret,) = made_secrets(shipped_preset(preset))
    genuine = request_of(preset, secret)
    changed = msgspec.structs.replace(genuine, body=tampered(genuine.body))

    with pytest.raises(VerificationError):
        source(preset, [secret]).verification.verify(changed, time.time())
    assert not accepted(judge, changed, secret)


def accepted(judge: Judge, request: Request, secret: str) -> bool:
    try:
        return bool(judge(request, secret))
    except Exception as error:  # noqa: BLE001 - each library has its own
        return error is None


@pytest.mark.parametrize("number", range(len(FILES["twilio"].vectors)))
def test_twilios_library_agrees_on_each_form(number: int) -> None:
    vector = FILES["twilio"].vectors[number]
    request = vector.request()
    if not vector.content or vector.content.startswith((b"{", b"[")):
        return
    algorithm = "HMAC_SHA256" if len(request.headers["X-Twilio-Signature"]) > 28 else "HMAC_SHA1"
    url = f"{request.public_url}{request.path}" + (f"?{request.query}" if request.query else "")
    validator = Several(vector.secrets[-1])

    said = validator.validate(url, fields_of(request), request.headers["X-Twilio-Signature"], algorithm)

    assert said == (vector.refused is None)


class Several(RequestValidator):  # type: ignore[misc]
    """Twilio's validator, with support for repeated form fields as frameworks return them."""

    def get_values(self, param_dict: dict[str, list[str]], param_name: str) -> list[str]:
        return param_dict[param_name]


@pytest.mark.parametrize("number", range(len(FILES["polar"].vectors)))
def test_polars_library_agrees_on_each_request(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = FILES["polar"].vectors[number]
    monkeypatch.setattr("polar.webhooks.time.time", lambda: vector.now)
    said = any(accepted(by_polar, vector.request(), secret) for secret in vector.secrets)

    assert said == (vector.refused is None)
