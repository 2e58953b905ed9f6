"""Receive events from Gatehouse with Django: verify, deduplicate, commit, answer.

Install and run it:

    pip install -r requirements.txt
    python app.py  # makes the two tables, once
    WEBHOOK_SECRETS=whsec_... gunicorn --bind 127.0.0.1:8000 --workers 2 app:application

In your project, the models, the view and the path stay as they are. The settings go into settings.py, and
`manage.py migrate` makes the tables.
"""

import json
import os
from decimal import Decimal
from typing import Any

import django
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.core.wsgi import get_wsgi_application
from django.db import IntegrityError, connection, models, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from standardwebhooks import Webhook, WebhookVerificationError

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ.get("DATABASE", "app.db"),
            # IMMEDIATE takes the write lock first: of two attempts at the same time, the second one waits.
            "OPTIONS": {"timeout": 5, "transaction_mode": "IMMEDIATE"},
        }
    },
    # Gatehouse accepts 1 MiB from a provider by default. The event's attributes come on top.
    DATA_UPLOAD_MAX_MEMORY_SIZE=2 * 1024 * 1024,
)
django.setup()

# During a rotation: the new and the old secret, with a space between them.
WEBHOOKS = [Webhook(secret) for secret in os.environ.get("WEBHOOK_SECRETS", "").split()]


class ReceivedEvent(models.Model):
    """An event that was handled. Its key is unique, so an event is handled once."""

    webhook_id = models.CharField(max_length=100, primary_key=True)
    received_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "events"
        db_table = "received_events"


class Sale(models.Model):
    """What this app makes of an event."""

    sale = models.TextField()
    total = models.TextField()  # SQLite has no exact decimals; with PostgreSQL use a DecimalField

    class Meta:
        app_label = "events"
        db_table = "sales"


@csrf_exempt  # the signature says who sends; Gatehouse has no CSRF token
@require_POST
def receive(request: HttpRequest) -> HttpResponse:
    """Answer 204 after the commit. An exception becomes a 500, and Gatehouse tries again."""
    try:
        body = request.body  # the bytes as they were sent; read them before `request.POST`
    except RequestDataTooBig:
        return HttpResponse(status=413)
    if not is_signed(body, dict(request.headers)):
        return HttpResponse(status=401)
    event = json.loads(body, parse_float=Decimal)  # a float would lose digits
    with transaction.atomic():
        try:
            # A transaction of its own: an IntegrityError in `handle` is not a duplicate.
            with transaction.atomic():
                ReceivedEvent.objects.create(webhook_id=request.headers["webhook-id"])
        except IntegrityError:
            return HttpResponse(status=204)  # a duplicate, which is done already
        handle(event)
    return HttpResponse(status=204)


def is_signed(body: bytes, headers: dict[str, str]) -> bool:
    """Check the signature (in constant time) and the timestamp (at most 5 minutes old)."""
    for webhook in WEBHOOKS:
        try:
            webhook.verify(body, headers, json_parse=False)
        except (WebhookVerificationError, ValueError):  # ValueError: malformed headers or body
            continue
        return True
    return False


def handle(event: dict[str, Any]) -> None:
    """Do your work here, in the transaction that stores the id."""
    if event["type"] == "sale.created":
        sale = event["data"]
        Sale.objects.create(sale=sale["id"], total=str(sale["total"]))


urlpatterns = [path("events", receive)]
application = get_wsgi_application()

if __name__ == "__main__":
    with connection.schema_editor() as schema:
        schema.create_model(ReceivedEvent)
        schema.create_model(Sale)
