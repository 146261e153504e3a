"""Errors as OpenAI shows them: a status, and a body with message, type, param and code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping


class ApiError(Exception):
    """An answer that is an error: its HTTP status, and what stands in the body."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        type_: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.error = {"message": message, "type": type_, "param": param, "code": code}

    @property
    def body(self) -> dict[str, Any]:
        """What stands in the response."""
        return {"error": self.error}

    def response(self) -> Response:
        """Return this error as a response."""
        return as_json(self.body, status=self.status, headers=self.headers)


def as_json(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a value as a JSON response."""
    return Response(orjson.dumps(value), status_code=status, media_type="application/json", headers=headers)


def model_not_found(model: str) -> ApiError:
    """Return the error for a model that does not exist."""
    message = (
        f"The model `{model}` does not exist or you do not have access to it. "
        "GET /v1/models lists those that this server has."
    )
    return ApiError(404, message, code="model_not_found")


def cursor_not_found(after: str) -> ApiError:
    """Return the error for a list that has nothing of the id after which it should go on."""
    return ApiError(404, f"Could not find '{after}' in the list.", param="after")


def invalid_value(message: str, param: str, *, code: str = "invalid_value") -> ApiError:
    """Return the error for a parameter that has the wrong value."""
    return ApiError(400, message, param=param, code=code)


def missing(param: str) -> ApiError:
    """Return the error for a parameter that must be there."""
    return ApiError(
        400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )


def too_large(limit: int) -> ApiError:
    """Return the error for a body over the limit."""
    return ApiError(
        413, f"The body of your request is too large: at most {limit:,} bytes.", code="request_too_large"
    )
