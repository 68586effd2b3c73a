"""Asking an archive how many instances a series has: C-FIND at series level (PS3.4 section C.4.1)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pydicom.dataset import Dataset
from pynetdicom.presentation import build_context

from dicom_ai_node.log import logger
from dicom_ai_node.node.scu import CALLING_AE_TITLE, Peer, entity_named

STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
_PENDING: Final = frozenset({0xFF00, 0xFF01})
_SILENCE_AFTER_FAILURE_S: Final = 60.0


@dataclass
class SeriesCounts:
    """Number of Series Related Instances (0020,1209) as an archive tells it.

    After a failure the archive is left in peace for a minute, so that one that is down holds nothing up.

    Attributes:
        archive: whom to ask.
        calling_ae_title: how the node calls itself.
        timeout_s: how long the archive may take for each message.
        now: the clock, seconds.
    """

    archive: Peer
    calling_ae_title: str = CALLING_AE_TITLE
    timeout_s: float = 5.0
    now: Callable[[], float] = time.monotonic
    _asked_again_from: float = field(default=float("-inf"), init=False)

    def __call__(self, study_instance_uid: str, series_instance_uid: str) -> int | None:
        """How many instances the archive has of a series; None where it does not know or does not answer."""
        if self.now() < self._asked_again_from:
            return None
        answer, failure = self._ask(study_instance_uid, series_instance_uid)
        if failure:
            self._asked_again_from = self.now() + _SILENCE_AFTER_FAILURE_S
            logger().warning("archive tells no counts", archive=self.archive.ae_title, reason=failure)
        return answer

    def _ask(self, study_instance_uid: str, series_instance_uid: str) -> tuple[int | None, str]:
        entity = entity_named(self.calling_ae_title)
        entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = self.timeout_s
        association = entity.associate(
            self.archive.host,
            self.archive.port,
            contexts=[build_context(STUDY_ROOT_FIND)],
            ae_title=self.archive.ae_title,
        )
        if not association.is_established:
            return None, "no association for C-FIND (absent, or the AE title or the query is refused)"
        count, status = None, None
        question = _identifier(study_instance_uid, series_instance_uid)
        for answer, identifier in association.send_c_find(question, STUDY_ROOT_FIND):
            status = answer.get("Status")
            if status not in _PENDING or identifier is None:
                continue
            # An archive that ignores the Series UID answers with every series of the study.
            if identifier.get("SeriesInstanceUID") == series_instance_uid:
                count = _number(identifier)
        association.release()
        return count, "" if status == 0 else f"C-FIND ended with {_words(status)}"


def _identifier(study_instance_uid: str, series_instance_uid: str) -> Dataset:
    question = Dataset()
    question.QueryRetrieveLevel = "SERIES"
    question.StudyInstanceUID = study_instance_uid
    question.SeriesInstanceUID = series_instance_uid
    question.NumberOfSeriesRelatedInstances = None
    return question


def _number(identifier: Dataset) -> int | None:
    try:
        value = int(str(identifier.get("NumberOfSeriesRelatedInstances")))
    # an archive need not know this attribute (PS3.4 table C.6-3: optional), and some send nonsense
    except Exception:
        return None
    return value if value > 0 else None


def _words(status: int | None) -> str:
    return "no answer" if status is None else f"status {status:04X}H"
