"""One message to one receiver: as JSON to a webhook, as text to Slack, as mail. Bounded in time; failures are raised.

Addresses of receivers are the operator's, so that private ones are not refused: a receiver is often next door. Neither
redirects nor proxies of the environment are followed. An address may contain a secret, and no message contains it.
"""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any, Final
from uuid import uuid4

import aiohttp
import orjson

from gateway import __version__
from gateway.alerts.rules import Notice
from gateway.config import webhook_url
from gateway.config.sections import Alert, AlertEmail
from gateway.errors import Transient
from gateway.signing import Signer

#: Of one message, from connecting to the answer.
TIMEOUT_S: Final = 15.0
#: Lines in one message, followed by the number of the others. Slack truncates at 40,000 characters.
_MOST_LINES: Final = 30
_SIGNS: Final = {"firing": "🔴", "resolved": "🟢", "test": "🔵"}
_HEADERS: Final = {"user-agent": f"nxcloud-gateway/{__version__}", "content-type": "application/json"}


class NotSent(Transient):
    """A message was not accepted; it is tried again. The sentence says why."""


async def send(alert: Alert, notices: Sequence[Notice]) -> None:
    """Send one message.

    Args:
        alert: the receiver.
        notices: what it says.

    Raises:
        NotSent: it was not accepted.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S):
            if alert.email is not None:
                await asyncio.to_thread(_mail, alert.email, _email(alert.email, notices))
            elif alert.slack is not None:
                await _post(alert.slack.url.get_secret_value(), orjson.dumps({"text": _text(notices, signs=True)}), {})
            elif alert.webhook is not None:
                await _webhook(alert, notices)
    except TimeoutError as exc:
        raise NotSent(f"no answer within {TIMEOUT_S:g} s") from exc
    except smtplib.SMTPResponseException as exc:
        raise NotSent(f"the SMTP server answered {exc.smtp_code} {_decoded(exc.smtp_error)}") from exc
    except smtplib.SMTPRecipientsRefused as exc:
        raise NotSent(f"the SMTP server refuses {', '.join(exc.recipients)}") from exc
    except ssl.SSLError as exc:
        raise NotSent(f"TLS failed: {exc.reason or exc}; check tls, port and the certificate") from exc
    except (OSError, smtplib.SMTPException, aiohttp.ClientError) as exc:
        raise NotSent(f"it cannot be reached: {getattr(exc, 'strerror', None) or exc or type(exc).__name__}") from exc


async def _webhook(alert: Alert, notices: Sequence[Notice]) -> None:
    assert alert.webhook is not None
    body = orjson.dumps(document(alert.name, notices))
    message_id, timestamp = uuid4().hex, int(time.time())
    headers = {name: value.get_secret_value() for name, value in alert.webhook.headers.items()}
    headers |= {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    if signer := Signer([secret.get_secret_value() for secret in alert.webhook.secrets]):
        headers["webhook-signature"] = signer.sign(message_id, timestamp, body)
    await _post(alert.webhook.url.get_secret_value(), body, headers)


async def _post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    target = webhook_url.parse(url)
    async with (
        aiohttp.ClientSession(trust_env=False) as session,
        session.post(url, data=body, headers={**_HEADERS, **headers}, allow_redirects=False) as response,
    ):
        if not 200 <= response.status < 300:
            raise NotSent(f"{target.host} answered {response.status}")


def document(receiver: str, notices: Sequence[Notice]) -> dict[str, Any]:
    """Return the JSON document of a webhook."""
    return {
        "receiver": receiver,
        "gateway": socket.gethostname(),
        "alerts": [
            {
                "rule": notice.key.rule,
                "subject": notice.key.subject,
                "state": notice.state,
                "since": datetime.fromtimestamp(notice.since, UTC).isoformat(timespec="seconds"),
                "text": notice.text,
            }
            for notice in notices
        ],
    }


def _title(notices: Sequence[Notice]) -> str:
    counts = {state: sum(notice.state == state for notice in notices) for state in ("firing", "resolved", "test")}
    said = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    first = notices[0]
    if len(notices) == 1:
        said = f"{first.state}: {first.key.rule.replace('_', ' ')}" + (
            f" ({first.key.subject})" if first.key.subject else ""
        )
    return f"Gateway {socket.gethostname()}: {said}"


def _text(notices: Sequence[Notice], *, signs: bool) -> str:
    lines = [_title(notices)]
    for notice in notices[:_MOST_LINES]:
        since = datetime.fromtimestamp(notice.since, UTC).strftime("%Y-%m-%d %H:%M UTC")
        mark = _SIGNS[notice.state] if signs else notice.state.upper()
        lines.append(f"{mark} {notice.text} (since {since})")
    if len(notices) > _MOST_LINES:
        lines.append(f"and {len(notices) - _MOST_LINES} more")
    return "\n".join(lines)


def _email(settings: AlertEmail, notices: Sequence[Notice]) -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = _title(notices)
    mail["From"] = settings.sender
    mail["To"] = ", ".join(settings.to)
    mail["Date"] = formatdate()
    mail["Message-ID"] = make_msgid(domain=settings.sender.rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    mail.set_content(_text(notices, signs=False) + "\n")
    return mail


def _mail(settings: AlertEmail, mail: EmailMessage) -> None:
    """Hand a mail to the SMTP server. Blocks; each step for a third of the time at most."""
    step_s = TIMEOUT_S / 3
    context = ssl.create_default_context()
    made: smtplib.SMTP
    if settings.tls == "implicit":
        made = smtplib.SMTP_SSL(settings.host, settings.port, timeout=step_s, context=context)
    else:
        made = smtplib.SMTP(settings.host, settings.port, timeout=step_s)
    with made as server:
        if settings.tls == "starttls":
            server.starttls(context=context)
        if settings.user:
            server.login(settings.user, settings.password.get_secret_value())
        server.send_message(mail)


def _decoded(text: bytes | str) -> str:
    said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return "".join(one for one in said if one.isprintable())[:200]
