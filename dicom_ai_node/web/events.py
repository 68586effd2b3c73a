"""What happens, as it happens: server-sent events (WHATWG HTML, section 9.2), one whenever a series stands
differently.

Each follower is given more only when it has taken what there was; one that is slow is told less often, and
costs no memory.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Header
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from dicom_ai_node.web.inside import NodeInside
from dicom_ai_node.workflow.watch import StateEvent, StateWatch

EVENT_STREAM: Final = "text/event-stream"
KEEPALIVE_SECONDS: Final = 15.0

_PAUSE_SECONDS: Final = 0.2

router = APIRouter(tags=["events"])


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "`event: state`, `data:` a series' state (as `GET /series/{uid}` gives it), `id:`",
            "content": {EVENT_STREAM: {"schema": {"type": "string"}}},
        }
    },
)
async def follow(
    inside: NodeInside, last_event_id: Annotated[str | None, Header(pattern="^[0-9]{1,19}$")] = None
) -> StreamingResponse:
    """Every change of state from now on, or from the event that `Last-Event-ID` names.

    Whoever was away for long is told the present state of every series that has changed meanwhile. An event
    may come twice.
    """
    begin = inside.watch.last if last_event_id is None else int(last_event_id)
    return StreamingResponse(
        _events(inside.watch, begin),
        media_type=EVENT_STREAM,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(watch: StateWatch, number: int) -> AsyncIterator[str]:
    # A first word, so that the follower knows that it is listened to.
    yield ": listening\n\n"
    said = time.monotonic()
    while not watch.stopping:
        # What is no more in memory is looked up on the disk, which must not hold up the others.
        found, number = await run_in_threadpool(watch.after, number)
        for event in found:
            yield _encoded(event)
            said = time.monotonic()
        if time.monotonic() - said >= KEEPALIVE_SECONDS:
            yield ": still here\n\n"
            said = time.monotonic()
        await asyncio.sleep(_PAUSE_SECONDS)


def _encoded(event: StateEvent) -> str:
    return f"event: state\nid: {event.number}\ndata: {json.dumps(event.standing.to_dict())}\n\n"
