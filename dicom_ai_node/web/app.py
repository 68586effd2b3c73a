"""The HTTP interface put together: what is offered under /api/v1, behind the token, and its description."""

from __future__ import annotations

from typing import Any, Final, Literal

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from dicom_ai_node import __version__
from dicom_ai_node.web import dicomweb, events, fetch, pages, paths, state, submission
from dicom_ai_node.web.authentication import TokenRequired
from dicom_ai_node.web.body import BodiesInBounds
from dicom_ai_node.web.inside import Inside, NodeInside
from dicom_ai_node.web.problems import Problem, described, tell_problems

PREFIX: Final = "/api/v1"
OPEN_PATHS: Final = frozenset((f"{PREFIX}/health", f"{PREFIX}/openapi.json", f"{PREFIX}/docs"))
"""What may be seen without the token; nothing of any patient is in it."""

_ROUTERS: Final = (
    submission.router,
    paths.router,
    fetch.router,
    state.router,
    events.router,
    dicomweb.router,
)


class Health(BaseModel):
    """That the node is there."""

    status: Literal["ready"]
    version: str
    ae_title: str


health = APIRouter(tags=["node"])


@health.get("/health")
async def is_ready(inside: NodeInside) -> Health:
    """Whether the node is there. Needs no token."""
    return Health(status="ready", version=__version__, ae_title=inside.settings.node.ae_title)


def make_app(inside: Inside, token: str) -> FastAPI:
    """The interface to a running node.

    Args:
        inside: the node's parts.
        token: whoever asks must show it.
    """
    app = FastAPI(
        title="dicom-ai-node",
        version=__version__,
        description="A DICOM node that reads spines. For research use only.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # The node talks to nobody but its peers, whatever the environment says.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.inside = inside
    app.include_router(health, prefix=PREFIX)
    app.include_router(pages.router, prefix=PREFIX)
    behind = described(_401="the token is missing or wrong", _422="a value is not of its kind")
    for part in _ROUTERS:
        app.include_router(part, prefix=PREFIX, responses=behind)
    tell_problems(app)
    app.add_middleware(TokenRequired, token=token, open_paths=OPEN_PATHS)
    app.add_middleware(BodiesInBounds, large_at=_is_upload)
    app.openapi = lambda: _description(app)  # type: ignore[method-assign]
    return app


def _is_upload(path: str) -> bool:
    return path == f"{PREFIX}/instances" or path.startswith(f"{PREFIX}/dicomweb/")


def _description(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        parts = found.setdefault("components", {})
        parts.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, operations in found["paths"].items():
            if path not in OPEN_PATHS:
                for operation in operations.values():
                    operation["security"] = [{"token": []}]
        app.openapi_schema = found
    return app.openapi_schema
