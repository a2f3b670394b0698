"""Do those whom we only call, the mail server and the payment provider, answer and know us?"""

from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
import aiosmtplib

from contracts.settings import PREFIX
from ops.doctor.deployment import Deployment, said
from ops.doctor.findings import Check, Findings, wrong

SMTP_SECONDS = 4.0
LISTS_ONE = "/v1/payment_intents?limit=1"


async def mail_server(deployment: Deployment) -> Findings:
    """Says hello, logs in where we have a password, and sends nothing."""
    url = deployment.settings.smtp_url
    parts = urlsplit(url)
    where = f"{parts.hostname}:{parts.port or 'its usual port'}"
    options: dict[str, Any] = {
        "hostname": parts.hostname,
        "port": parts.port,
        "use_tls": parts.scheme == "smtps",
        "start_tls": parts.scheme == "smtp+starttls",
        "timeout": SMTP_SECONDS,
    }
    if parts.username:
        options |= {"username": unquote(parts.username), "password": unquote(parts.password or "")}
    client = aiosmtplib.SMTP(**options)
    try:
        await client.connect()
        await client.ehlo()
        await client.quit()
    except aiosmtplib.SMTPAuthenticationError:
        return [wrong(f"the mail server {where} refuses our password", f"correct {PREFIX}SMTP_URL")]
    except (aiosmtplib.SMTPException, OSError, TimeoutError) as problem:
        return [
            wrong(
                f"the mail server {where} does not answer: {said(problem)}",
                f"start it, or correct {PREFIX}SMTP_URL; tickets are sold meanwhile, and their mails wait",
            )
        ]
    finally:
        client.close()
    return []


async def payment_provider(deployment: Deployment) -> Findings:
    """Asked for its list of payments, which changes nothing: is it there, and does it know our key?"""
    settings = deployment.settings
    headers = {"Authorization": f"Bearer {settings.payment_api_key}"}
    try:
        status, _ = await deployment.get(settings.payment_api_url.rstrip("/") + LISTS_ONE, headers=headers)
    except (aiohttp.ClientError, OSError, TimeoutError) as problem:
        return [
            wrong(
                f"the payment provider at {settings.payment_api_url} does not answer: {said(problem)}",
                f"correct {PREFIX}PAYMENT_API_URL, or open the way out to it",
            )
        ]
    if status == 200:
        return []
    if status in (401, 403):
        return [
            wrong(
                f"the payment provider refuses our key ({status})",
                f"set {PREFIX}PAYMENT_API_KEY to a secret key that may read and write payments",
            )
        ]
    return [wrong(f"the payment provider answers {status}", "look at its status page; checkouts are answered 503 now")]


CHECKS = (Check("mail server", mail_server), Check("payment provider", payment_provider))
