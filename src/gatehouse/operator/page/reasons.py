"""Says in words why an attempt failed, and what to do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from gatehouse.errors import OutcomeReason


class Explained(NamedTuple):
    """What a reason means."""

    #: A few words.
    short: str
    #: One sentence.
    meaning: str
    #: What the operator can do; empty if there is nothing to do.
    advice: str = ""


_LOOK = "Look for the event's id in the app's log: it is the webhook-id of the request."

EXPLAINED: Final[dict[OutcomeReason, Explained]] = {
    "ok": Explained("accepted", "The app accepted the event."),
    "redirect": Explained(
        "redirected",
        "The app answered with a redirect, which Gatehouse never follows.",
        "Set the destination's url to the address that the app redirects to.",
    ),
    "gone": Explained(
        "gone",
        "The app answered 410: nothing will ever be at this address, so there is no further attempt.",
        "Correct the destination's url, or remove the route.",
    ),
    "rejected": Explained(
        "refused by the app",
        "The app refused the event. The delivery is a dead letter after five refusals, or at once if "
        "retry_on says so.",
        _LOOK,
    ),
    "throttled": Explained(
        "told to slow down",
        "The app asked for later attempts.",
        "Set the destination's rate or concurrency to what the app can handle.",
    ),
    "server_error": Explained("error in the app", "The app failed with an error of its own.", _LOOK),
    "timeout": Explained(
        "no reply in time",
        "The app did not reply within the destination's timeout. It may have handled the event nevertheless.",
        "Let the app reply before it does its work, or raise the destination's timeout.",
    ),
    "dns": Explained(
        "name not found",
        "The host name of the destination's url has no address where the gateway runs.",
        "Check the name in the url, and the name service of the gateway's machine.",
    ),
    "connect": Explained(
        "no connection",
        "The gateway could not connect to the app, or got no access token for it. Nothing was sent.",
        "Check that the app runs and listens at the destination's url. In a container, 127.0.0.1 is the "
        "container itself. If the error says that there is no access token, check the destination's auth.",
    ),
    "tls": Explained(
        "no trusted TLS connection",
        "The TLS connection to the app failed.",
        "Check the app's certificate, and tls.ca of the destination if a CA of your own issued it.",
    ),
    "disconnected": Explained(
        "connection closed",
        "The app closed the connection before it replied. It may have handled the event nevertheless.",
        "Look for a crash or a restart of the app, or of a proxy in front of it.",
    ),
    "invalid_reply": Explained(
        "invalid reply",
        "What came back is not a valid HTTP reply.",
        "Check that the destination's url names the port of the app.",
    ),
    "unsendable": Explained(
        "cannot be sent",
        "The gateway could not build a request from the event.",
        "The error says why. Change the format of the destination, and retry the delivery.",
    ),
    "corrupt": Explained(
        "damaged in the store",
        "The stored bytes are not those that were accepted, so the gateway does not send them.",
        "Check the disk, and have the provider send the event again.",
    ),
}
#: More about what an app says with a status.
_BY_STATUS: Final = {
    401: "Check the destination's auth. If it has a secret, check that the app knows it, and its clock.",
    403: "Check the destination's auth, and its secret if it has one. Check what the app allows.",
    404: "Check the path in the destination's url, and that the app serves it.",
    405: "Check the path in the destination's url: the app does not accept POST there.",
    413: "Raise the app's limit for bodies, or that of a proxy in front of it.",
    415: "Check that the app accepts the content type of the destination's format.",
}


def explain(reason: str, http_status: int | None) -> Explained:
    """Explain the reason of an attempt. A reason that this version does not know explains itself."""
    found = next((text for name, text in EXPLAINED.items() if name == reason), Explained(reason, ""))
    advice = _BY_STATUS.get(http_status or 0) if reason == "rejected" else None
    return found if advice is None else found._replace(advice=advice)
