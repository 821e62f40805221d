"""The mails that a new auth collection sends until somebody writes others. Placeholders are PocketBase's. Pure.

Not here: filling them in and sending them.
"""

from __future__ import annotations

from typing import Final

from pando.records.model import MailTemplate


def _page(*paragraphs: str) -> str:
    return "\n".join([*(f"<p>{each}</p>" for each in paragraphs), "<p>{APP_NAME}</p>"])


def _link(action: str, text: str) -> str:
    target = f"{{APP_URL}}/_/#/auth/{action}/{{TOKEN}}"
    return f'<a class="btn" href="{target}" target="_blank" rel="noopener">{text}</a>'


VERIFICATION: Final = MailTemplate(
    subject="{APP_NAME}: confirm your email address",
    body=_page(
        "Hello,",
        "please confirm that this address is yours:",
        _link("confirm-verification", "Confirm"),
        "If you have not signed up, there is nothing to do.",
    ),
)
PASSWORD_RESET: Final = MailTemplate(
    subject="{APP_NAME}: choose a new password",
    body=_page(
        "Hello,",
        "this link lets you choose a new password:",
        _link("confirm-password-reset", "Choose a password"),
        "If it was not you who asked for it, there is nothing to do: your password stays as it is.",
    ),
)
EMAIL_CHANGE: Final = MailTemplate(
    subject="{APP_NAME}: confirm your new email address",
    body=_page(
        "Hello,",
        "please confirm that you want to use this address from now on:",
        _link("confirm-email-change", "Use this address"),
        "If it was not you who asked for it, there is nothing to do.",
    ),
)
ONE_TIME_PASSWORD: Final = MailTemplate(
    subject="{APP_NAME}: your sign-in code",
    body=_page(
        "Hello,",
        "your code to sign in is <strong>{OTP}</strong>",
        "If it was not you who asked for it, there is nothing to do.",
    ),
)
AUTH_ALERT: Final = MailTemplate(
    subject="{APP_NAME}: a new sign-in",
    body=_page(
        "Hello,",
        "somebody has signed in to your account from a place that was not seen before:",
        "<em>{ALERT_INFO}</em>",
        "If it was you, there is nothing to do.",
        "<strong>If it was not you, change your password now: that ends all other sign-ins.</strong>",
    ),
)
