"""Images in by DICOMweb: the Store transaction of the Studies Service (STOW-RS).

Source: PS3.18 section 10.5, tables 10.5.3-1 (status codes) and I.2-1, I.2-2 (the answer's data set).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import fastapi
from fastapi import APIRouter, Request
from pydicom.dataset import Dataset
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from dicom_ai_node.node.store import StoreAnswer, StoreStatus
from dicom_ai_node.web.body import Keep, media_type, pieces
from dicom_ai_node.web.inside import Inside, NodeInside
from dicom_ai_node.web.multipart import Part, parts
from dicom_ai_node.web.problems import RequestRefused, described
from dicom_ai_node.web.state import UID_PATTERN
from dicom_ai_node.web.submission import CALLING_AE_TITLE, DICOM

MULTIPART: Final = "multipart/related"
DICOM_JSON: Final = "application/dicom+json"

_ANSWERS: Final = frozenset(("*/*", "application/*", "application/json", DICOM_JSON))
_DATA_SET: Final = {"schema": {"type": "object"}}

router = APIRouter(prefix="/dicomweb", tags=["DICOMweb"])


@dataclass
class _Stored:
    """What became of the instances of one request."""

    referenced: list[Dataset] = field(default_factory=list)
    failed: list[Dataset] = field(default_factory=list)
    others: list[Dataset] = field(default_factory=list)

    def note(self, answer: StoreAnswer) -> None:
        """Add one instance."""
        item = Dataset()
        if answer.status is not StoreStatus.SUCCESS:
            item.FailureReason = int(answer.status)
        if answer.identity is None:
            # Nobody knows what it is called: Other Failures Sequence.
            self.others.append(item)
            return
        item.ReferencedSOPClassUID = answer.identity.sop_class_uid
        item.ReferencedSOPInstanceUID = answer.identity.sop_instance_uid
        (self.referenced if answer.status is StoreStatus.SUCCESS else self.failed).append(item)

    def answer(self) -> JSONResponse:
        """The Store Instances Response (PS3.18 section 10.5.3.3)."""
        said = Dataset()
        # Instances are not given out again: there is no place to retrieve them from.
        said.RetrieveURL = ""
        for keyword, items in (
            ("ReferencedSOPSequence", self.referenced),
            ("FailedSOPSequence", self.failed),
            ("OtherFailuresSequence", self.others),
        ):
            if items:
                setattr(said, keyword, items)
        return JSONResponse(said.to_json_dict(), self._status(), media_type=DICOM_JSON)

    def _status(self) -> int:
        failed = [*self.failed, *self.others]
        if not failed:
            return 200
        if self.referenced:
            return 202
        full = all(item.FailureReason == StoreStatus.OUT_OF_RESOURCES for item in failed)
        return 507 if full else 409


_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "all instances are on the disk", "content": {DICOM_JSON: _DATA_SET}},
    202: {
        "description": "some are; the others are in Failed SOP Sequence",
        "content": {DICOM_JSON: _DATA_SET},
    },
    409: {"description": "none is; Failed SOP Sequence says why", "content": {DICOM_JSON: _DATA_SET}},
    **described(
        _400="no multipart body, or one without parts",
        _406="the answer is application/dicom+json and nothing else",
        _408="the body stopped coming",
        _413="an instance is larger than [node] max_instance_mb",
        _415=f'not {MULTIPART}; type="{DICOM}"',
        _507="no room on the disk; store it again later",
    ),
}
_OPENAPI: Final = {
    "requestBody": {
        "required": True,
        "content": {f'{MULTIPART}; type="{DICOM}"': {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post(
    "/studies", responses=_RESPONSES, openapi_extra=_OPENAPI, response_class=JSONResponse, summary="STOW-RS"
)
async def store(request: Request, inside: NodeInside) -> JSONResponse:
    """Store instances of any studies (PS3.18 section 10.5)."""
    return await _store(request, inside, None)


@router.post(
    "/studies/{study_instance_uid}",
    responses=_RESPONSES,
    openapi_extra=_OPENAPI,
    response_class=JSONResponse,
    summary="STOW-RS, one study",
)
async def store_in_study(
    request: Request,
    inside: NodeInside,
    study_instance_uid: Annotated[str, fastapi.Path(pattern=UID_PATTERN)],
) -> JSONResponse:
    """Store instances of one study; those of another are refused (PS3.18 section 10.5)."""
    return await _store(request, inside, study_instance_uid)


async def _store(request: Request, inside: Inside, study_uid: str | None) -> JSONResponse:
    kind, parameters = media_type(request)
    if kind != MULTIPART or parameters.get("type", DICOM).lower() != DICOM or not parameters.get("boundary"):
        raise RequestRefused(415, f'send {MULTIPART}; type="{DICOM}"; boundary=...')
    wanted = {
        item.partition(";")[0].strip().lower() for item in request.headers.get("accept", "*/*").split(",")
    }
    if not wanted & _ANSWERS:
        raise RequestRefused(406, f"the answer is {DICOM_JSON}; accept it")
    announced = request.headers.get("content-length", "")
    inside.spool.require_room(int(announced) if announced.isdigit() else 0)
    body = pieces(request, inside.settings.node.network_timeout_seconds)
    stored = _Stored()
    async for part in _parts(inside, body, parameters["boundary"]):
        part_kind = part.headers.get("content-type", DICOM).partition(";")[0].strip().lower()
        if part_kind != DICOM:
            raise RequestRefused(415, f"a part is {part_kind}; send parts of {DICOM}")
        stored.note(await run_in_threadpool(_receive, inside, part.keep.view(), study_uid))
    if not (stored.referenced or stored.failed or stored.others):
        raise RequestRefused(400, "the body has no parts")
    return stored.answer()


def _parts(inside: Inside, body: AsyncIterator[bytes], boundary: str) -> AsyncIterator[Part]:
    return parts(body, boundary, lambda: Keep(inside.spool.root, inside.largest_instance))


def _receive(inside: Inside, file: memoryview, study_uid: str | None) -> StoreAnswer:
    return inside.receiver.receive_file(file, CALLING_AE_TITLE, study_instance_uid=study_uid)
