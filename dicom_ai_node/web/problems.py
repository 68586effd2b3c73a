"""What the HTTP interface says when it says no: problem details (RFC 9457), in the words of the error.

No error of the node becomes a bare status, and no fault of the node shows its inside.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from dicom_ai_node.errors import InputError, NodeError, TransientError
from dicom_ai_node.intake.spool import SpoolFull

PROBLEM_JSON: Final = "application/problem+json"

_log = structlog.get_logger(__name__)


class Problem(BaseModel):
    """What was wrong with a request, or with the node (RFC 9457 section 3.1)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class RequestRefused(NodeError):
    """A request cannot be carried out.

    Args:
        status: HTTP status (RFC 9110 section 15).
        detail: why, and what to do.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def problem(status: int, detail: str) -> JSONResponse:
    """The answer to a request that is refused."""
    said = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    return JSONResponse(said.model_dump(), status, media_type=PROBLEM_JSON)


def described(**_statuses: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses: `described(_404="not here")`."""
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        int(name.removeprefix("_")): {"description": text, "content": content}
        for name, text in _statuses.items()
    }


def tell_problems(app: FastAPI) -> None:
    """Have every error leave `app` as a problem."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(NodeError, _node)
    app.add_exception_handler(OSError, _disk)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _fault)


def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = problem(error.status_code, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


def _validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Where and what, but never what was given: it may be a patient's.
    found = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    return problem(422, "; ".join(found))


def _node(request: Request, error: Exception) -> Response:
    match error:
        case RequestRefused():
            return problem(error.status, str(error))
        case SpoolFull():
            return problem(507, str(error))
        case InputError():
            return problem(400, str(error))
        case TransientError():
            return problem(503, str(error))
    return _fault(request, error)


def _disk(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    if error.errno is None:
        return _fault(request, error)
    _log.error("disk", method=request.method, reason=error.strerror)
    return problem(507, f"the node's disk cannot be used: {error.strerror}")


def _gone(_request: Request, _error: Exception) -> Response:
    return problem(400, "the connection ended before the request did")


def _fault(request: Request, error: Exception) -> Response:
    route = request.scope.get("route")
    _log.error("fault", method=request.method, route=getattr(route, "path", ""), exc_info=error)
    return problem(500, "a fault of the node; its log says more")
