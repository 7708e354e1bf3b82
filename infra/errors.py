"""Every failure that a user can mend is a `Fault`: it says what, where and the remedy, and no traceback is shown."""

from __future__ import annotations

from botocore.exceptions import ClientError


class Fault(Exception):
    """A failure with a remedy. The message is complete: value, bound or place, and what to do."""


_RIGHTS = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError")
_CREDENTIALS = ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException")
_BUSY = ("Throttling", "ThrottlingException", "TooManyRequestsException", "SlowDown", "ServiceUnavailable")


def remedy(error: Exception) -> str:
    """What a person can do about an answer of AWS that no command expected."""
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
    if code in _RIGHTS:
        return (
            "Check the identity with `aws sts get-caller-identity` and its rights; docs/deploy.md lists those that "
            "each command needs"
        )
    if code in _CREDENTIALS:
        return "The credentials are no longer valid: log in again (`aws sso login`, or new keys)"
    if code in _BUSY:
        return "AWS is busy: run the command again in a minute"
    return "The message is AWS's own; docs/deploy.md explains the usual ones. Every command can be run again"
