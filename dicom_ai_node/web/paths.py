"""Images in by name: files that the node sees too, below folders that [http] paths lists.

What is opened is judged by where it really lies, after all symbolic links, and only regular files are read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter
from pydantic import BaseModel, Field

from dicom_ai_node.node.store import StoreStatus
from dicom_ai_node.web.body import Keep
from dicom_ai_node.web.inside import Inside, NodeInside
from dicom_ai_node.web.problems import RequestRefused, described
from dicom_ai_node.web.submission import CALLING_AE_TITLE, STATUS_OF, Taken, taken

MOST_PATHS: Final = 10_000
_PIECE: Final = 1024 * 1024

router = APIRouter(tags=["images in"])


class Paths(BaseModel):
    """Files to read, by their absolute names."""

    paths: Annotated[
        list[Annotated[str, Field(pattern=r"^/[^\x00]*$", max_length=4096)]],
        Field(min_length=1, max_length=MOST_PATHS),
    ]


class RefusedPath(BaseModel):
    """A file that was not taken in."""

    path: str
    reason: str


class TakenPaths(BaseModel):
    """What became of every file."""

    instances: list[Taken]
    refused: list[RefusedPath]


@router.post(
    "/instances/paths",
    status_code=201,
    summary="Have DICOM files read",
    responses=described(
        _400="the body is no JSON",
        _403="a file is not below one of [http] paths; none was read",
        _413="the body is larger than 4 MiB",
        _507="no room on the disk; ask again later",
    ),
)
def read_paths(asked: Paths, inside: NodeInside) -> TakenPaths:
    """Files that the node can see too. What was read is on the node's own disk: the files may go."""
    folders = [folder.resolve() for folder in inside.settings.http.paths]
    for name in asked.paths:
        if not _below(Path(name).resolve(), folders):
            raise RequestRefused(403, "a file is not below one of the folders that [http] paths lists")
    found = TakenPaths(instances=[], refused=[])
    for name in asked.paths:
        try:
            found.instances.append(_read(inside, name, folders))
        except RequestRefused as error:
            if error.status in (403, 500, 507):
                raise
            found.refused.append(RefusedPath(path=name, reason=str(error)))
    return found


def _read(inside: Inside, name: str, folders: Iterable[Path]) -> Taken:
    try:
        # Without waiting: a pipe without a writer would hold us.
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise RequestRefused(404, f"cannot be read ({error.strerror})") from error
    try:
        # What was opened, whatever the name has come to mean since it was looked at.
        if not _below(Path(os.readlink(f"/proc/self/fd/{descriptor}")), folders):  # noqa: PTH115
            raise RequestRefused(403, "a file is not below one of the folders that [http] paths lists")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise RequestRefused(404, "is no file")
    except BaseException:
        os.close(descriptor)
        raise
    with os.fdopen(descriptor, "rb") as file, Keep(inside.spool.root, inside.largest_instance) as keep:
        # Read, not mapped: its owner may shorten it meanwhile.
        while piece := file.read(_PIECE):
            keep.add_now(piece)
        answer = inside.receiver.receive_file(keep.view(), CALLING_AE_TITLE)
    if answer.status is StoreStatus.SUCCESS:
        return taken(answer)
    raise RequestRefused(STATUS_OF[answer.status], answer.reason)


def _below(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)
