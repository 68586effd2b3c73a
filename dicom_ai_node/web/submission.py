"""Images in: one instance a request, with the promise of C-STORE.

201 means that the bytes are on the disk under their final name, as they came.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from dicom_ai_node.intake.spool import Outcome
from dicom_ai_node.node.store import StoreAnswer, StoreStatus
from dicom_ai_node.web.body import Keep, media_type, pieces, too_large
from dicom_ai_node.web.inside import NodeInside
from dicom_ai_node.web.problems import RequestRefused, described

DICOM: Final = "application/dicom"
CALLING_AE_TITLE: Final = "HTTP"
"""Who is said to have sent what came over HTTP, which knows no AE titles."""

STATUS_OF: Final = {
    StoreStatus.PROCESSING_FAILURE: 500,
    StoreStatus.SOP_CLASS_NOT_SUPPORTED: 415,
    StoreStatus.TRANSFER_SYNTAX_NOT_SUPPORTED: 415,
    StoreStatus.OUT_OF_RESOURCES: 507,
    StoreStatus.MISMATCH: 400,
    StoreStatus.ANOTHER_STUDY: 400,
    StoreStatus.CANNOT_UNDERSTAND: 400,
}

router = APIRouter(tags=["images in"])


class Taken(BaseModel):
    """An instance that is on the node's disk."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    outcome: Outcome


def taken(answer: StoreAnswer) -> Taken:
    """What became of an instance that was brought.

    Raises:
        RequestRefused: it is not on the disk.
    """
    if answer.status is not StoreStatus.SUCCESS or answer.identity is None or answer.outcome is None:
        raise RequestRefused(STATUS_OF[answer.status], answer.reason)
    identity = answer.identity
    return Taken(
        study_instance_uid=identity.study_instance_uid,
        series_instance_uid=identity.series_instance_uid,
        sop_instance_uid=identity.sop_instance_uid,
        outcome=answer.outcome,
    )


@router.post(
    "/instances",
    status_code=201,
    summary="Bring one DICOM instance",
    responses=described(
        _400="not readable as DICOM, or its headers contradict each other",
        _408="the body stopped coming",
        _413="larger than [node] max_instance_mb",
        _415="not application/dicom, or a SOP class or transfer syntax that is not taken in",
        _507="no room on the disk; bring it again later",
    ),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {DICOM: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def bring_instance(request: Request, inside: NodeInside) -> Taken:
    """A DICOM file (PS3.10) as the body. The same bytes again are a duplicate and change nothing."""
    kind, _ = media_type(request)
    if kind != DICOM:
        raise RequestRefused(415, f"Content-Type is {kind or 'not given'}; send {DICOM}")
    announced = request.headers.get("content-length", "")
    size = int(announced) if announced.isdigit() else 0
    if size > inside.largest_instance:
        raise too_large(inside.largest_instance)
    inside.spool.require_room(size)
    with Keep(inside.spool.root, inside.largest_instance) as keep:
        async for piece in pieces(request, inside.settings.node.network_timeout_seconds):
            await keep.add(piece)
        return taken(
            await run_in_threadpool(
                lambda: inside.receiver.receive_file(keep.view(), CALLING_AE_TITLE),
            )
        )
