"""What is wrong with a request, in PocketBase's error envelope: `{"data":{...},"message":"...","status":N}`.

`data` maps a field to `{"code","message"[,"params"]}` and nests. Codes are PocketBase's (reference: its API; sections
0.2 and 1.10 of the field notes); texts are our own but for "Cannot be blank.". Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pando.errors import CallerError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one value."""

    code: str
    message: str
    params: Mapping[str, Any] | None = None


Problems = Mapping[str, "Problem | Problems"]
"""By field name, list positions as decimal text."""

REQUIRED: Final = Problem("validation_required", "Cannot be blank.")


class ApiError(CallerError):
    """A refused request of the records API: `status`, `message`, `data`."""

    def __init__(self, status: int, message: str, data: Problems | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.data: Problems = data or {}


class ValidationFailed(ApiError):
    """Values that are not valid, by field."""

    def __init__(self, data: Problems, message: str = "An error occurred while validating the submitted data.") -> None:
        super().__init__(400, message, data)


def bad_request(message: str = "Something went wrong while processing your request.") -> ApiError:
    """Refuse with 400."""
    return ApiError(400, message)


def unauthorized(message: str = "The request requires valid record authorization token to be set.") -> ApiError:
    """Refuse with 401."""
    return ApiError(401, message)


def forbidden(message: str = "You are not allowed to perform this request.") -> ApiError:
    """Refuse with 403."""
    return ApiError(403, message)


def not_found(message: str = "The requested resource wasn't found.") -> ApiError:
    """Refuse with 404."""
    return ApiError(404, message)
