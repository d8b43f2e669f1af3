"""Passwords and keys out of texts that are kept or shown: parameters, tags, notes, tracebacks, log lines."""

import logging
import os
import re
from collections.abc import Mapping
from urllib.parse import quote

HIDDEN = "***"
SHORTEST = 6
"""A shorter value of a secret variable is not looked for: it would be found in innocent words."""

_IN_ADDRESS = re.compile(r"""(?<=://)[^\s/"'<>\\]*@""")
_IN_QUERY = re.compile(
    r"""(?i)([?&;](?:password|passwd|pwd|token|secret|sslpassword|[\w-]*signature)=)[^&;\s"'<>\\]+"""
)
_SECRET_NAME = re.compile(r"(?:^|_)(?:PASSWORD|PGPASSWORD|PASSWD|SECRET|TOKEN|ACCESS_KEY|API_KEY)(?:_|$)")


def without_credentials(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Return a text without ``user:password@`` in its addresses, secret query values and values of secret variables.

    Args:
        text: any text, several lines included.
        environment: whose variables named like secrets (``…_PASSWORD``, ``…_TOKEN``, ``AWS_SECRET_ACCESS_KEY``) are
            looked for; None is this process's.
    """
    cleaned = _IN_QUERY.sub(rf"\g<1>{HIDDEN}", _IN_ADDRESS.sub("", text))
    for name, value in (os.environ if environment is None else environment).items():
        if len(value) >= SHORTEST and _SECRET_NAME.search(name):
            cleaned = cleaned.replace(value, HIDDEN).replace(quote(value, safe=""), HIDDEN)
    return cleaned


class CredentialFilter(logging.Filter):
    """For a handler: what it writes holds no credentials."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:  # a malformed record is the handler's to report
            return True
        cleaned = without_credentials(message)
        if cleaned != message:
            record.msg, record.args = cleaned, None
        if record.exc_info:
            record.exc_text = without_credentials(logging.Formatter().formatException(record.exc_info))
        return True


def hide_credentials_in_logs() -> None:
    """Let the root logger's handlers write none."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(item, CredentialFilter) for item in handler.filters):
            handler.addFilter(CredentialFilter())
