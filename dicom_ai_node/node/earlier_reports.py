"""Fetching a patient's earlier structured reports from an archive: C-FIND, then C-GET over one association.

Asked for are the studies before a given one (PS3.4 section C.6.2.1, Study Root), newest first, their SR
series, and the instances of the SOP class that this node writes. What they say is for others to judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydicom.dataset import Dataset
from pydicom.uid import UID, Comprehensive3DSRStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context, build_role

from dicom_ai_node.errors import TransientError
from dicom_ai_node.node.find import STUDY_ROOT_FIND
from dicom_ai_node.node.scu import CALLING_AE_TITLE, Answers, Peer, entity_named

STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
MOST_REPORTS_OF_A_SERIES: Final = 20
"""A series with more reports of this kind is none of ours; the rest is left alone."""

_PENDING: Final = frozenset({0xFF00, 0xFF01})

T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """Whose earlier studies are meant, and before which moment.

    Attributes:
        patient_id: Patient ID (0010,0020).
        issuer: Issuer of Patient ID (0010,0021); empty where the images do not say.
        birth_date: as DA; empty where the images do not say.
        study_instance_uid: the study that is compared.
        date, time: of that study, as DA and TM.
    """

    patient_id: str
    issuer: str
    birth_date: str
    study_instance_uid: str
    date: str
    time: str

    @classmethod
    def about(cls, header: Dataset) -> Asked:
        """The patient and the study of an image."""
        return cls(*(str(header.get(keyword) or "").strip() for keyword in _ASKED_OF))

    def is_patient_of(self, told: Dataset) -> bool:
        """Whether an answer or an object is about the patient, as far as both say who that is.

        Patient ID must agree; an issuer or a birth date that both give and that differ is another person's.
        """
        theirs = self.about(told)
        return theirs.patient_id == self.patient_id and all(
            not one or not other or one == other
            for one, other in ((self.issuer, theirs.issuer), (self.birth_date, theirs.birth_date))
        )


_ASKED_OF: Final = (
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
)


@dataclass(frozen=True)
class EarlierReports:
    """An archive that is asked for earlier reports.

    Attributes:
        archive: whom to ask.
        calling_ae_title: how the node calls itself.
        timeout_s: how long the archive may take for each message.
        most_studies: how many earlier studies with reports are looked at.
    """

    archive: Peer
    calling_ae_title: str = CALLING_AE_TITLE
    timeout_s: float = 10.0
    most_studies: int = 5

    def newest(self, asked: Asked, choose: Callable[[Sequence[Dataset]], T | None]) -> T | None:
        """What `choose` makes of the reports of the newest earlier study that it makes anything of.

        Args:
            asked: the patient and the study; without Patient ID or Study Date nothing is asked.
            choose: the reports of one study -> something, or None to be given those of the next older one.

        Raises:
            TransientError: the archive is absent, refuses, or breaks off.
        """
        if not asked.patient_id or not asked.date:
            return None
        received: list[Dataset] = []

        def keep(event: evt.Event) -> int:
            received.append(event.dataset)
            return 0x0000

        association = self._associate([(evt.EVT_C_STORE, keep)])
        try:
            for study in self._studies(association, asked):
                received.clear()
                self._fetch(association, study)
                # An archive may match more freely than it was asked to.
                found = choose([report for report in received if asked.is_patient_of(report)])
                if found is not None:
                    return found
        except (RuntimeError, ValueError) as error:
            # pynetdicom's ways of saying that the association broke, or takes no such request.
            raise self._failed(str(error)) from error
        finally:
            if association.is_established:
                association.release()
        return None

    def _associate(self, handlers: Any) -> Association:
        entity = entity_named(self.calling_ae_title)
        entity.connection_timeout = entity.acse_timeout = self.timeout_s
        entity.dimse_timeout = entity.network_timeout = self.timeout_s
        syntaxes: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
        association = entity.associate(
            self.archive.host,
            self.archive.port,
            contexts=[
                build_context(STUDY_ROOT_FIND),
                build_context(STUDY_ROOT_GET),
                build_context(Comprehensive3DSRStorage, syntaxes),
            ],
            ae_title=self.archive.ae_title,
            ext_neg=[build_role(Comprehensive3DSRStorage, scp_role=True)],
            evt_handlers=handlers,
        )
        if not association.is_established:
            raise self._failed("no association")
        association.dimse.msg_queue = Answers()
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
        missing = {STUDY_ROOT_FIND: "C-FIND", STUDY_ROOT_GET: "C-GET"}
        refused = [name for uid, name in missing.items() if uid not in accepted]
        if refused:
            association.release()
            raise self._failed(f"{' and '.join(refused)} refused")
        return association

    def _studies(self, association: Association, asked: Asked) -> Iterator[Dataset]:
        question = _question("STUDY", StudyDate=f"-{asked.date}", ModalitiesInStudy="")
        for keyword in _ASKED_OF:
            if keyword not in question:
                setattr(question, keyword, "")
        question.PatientID = asked.patient_id
        if not asked.patient_id.isascii():
            question.SpecificCharacterSet = "ISO_IR 192"
        earlier = [
            study
            for study in self._find(association, question)
            if asked.is_patient_of(study)
            and study.get("StudyInstanceUID", asked.study_instance_uid) != asked.study_instance_uid
            and _moment(study) < (asked.date, asked.time)
            and _may_have_reports(study)
        ]
        earlier.sort(key=_moment, reverse=True)
        yield from earlier[: self.most_studies]

    def _fetch(self, association: Association, study: Dataset) -> None:
        """Has the archive send the study's reports."""
        uid = str(study.StudyInstanceUID)
        question = _question("SERIES", StudyInstanceUID=uid, Modality="SR", SeriesInstanceUID="")
        for series in self._find(association, question):
            if series.get("Modality", "SR") != "SR" or not series.get("SeriesInstanceUID"):
                continue
            of_series = {"StudyInstanceUID": uid, "SeriesInstanceUID": str(series.SeriesInstanceUID)}
            question = _question("IMAGE", **of_series, SOPClassUID="", SOPInstanceUID="")
            wanted = [
                str(item.SOPInstanceUID)
                for item in self._find(association, question)
                if item.get("SOPInstanceUID")
                and (item.get("SOPClassUID") or Comprehensive3DSRStorage) == Comprehensive3DSRStorage
            ]
            if wanted:
                request = _question("IMAGE", **of_series)
                request.SOPInstanceUID = wanted[:MOST_REPORTS_OF_A_SERIES]
                self._ended(association.send_c_get(request, STUDY_ROOT_GET), "C-GET")

    def _find(self, association: Association, question: Dataset) -> list[Dataset]:
        return self._ended(association.send_c_find(question, STUDY_ROOT_FIND), "C-FIND")

    def _ended(self, responses: Iterator[tuple[Dataset, Dataset | None]], what: str) -> list[Dataset]:
        """The identifiers of all pending answers, once the last one says success."""
        found, status = [], None
        for answer, identifier in responses:
            status = answer.get("Status")
            if status in _PENDING and identifier is not None:
                found.append(identifier)
        if status != 0:
            words = "without an answer" if status is None else f"with status {status:04X}H"
            raise self._failed(f"{what} ended {words}")
        return found

    def _failed(self, why: str) -> TransientError:
        peer = self.archive
        return TransientError(
            f"{peer.ae_title} at {peer.host}:{peer.port} tells no earlier reports: {why}. Check [priors], "
            f"and that the archive allows {self.calling_ae_title} to query and to retrieve."
        )


def _question(query_level: str, **keys: str) -> Dataset:
    question = Dataset()
    question.QueryRetrieveLevel = query_level
    for keyword, value in keys.items():
        setattr(question, keyword, value)
    return question


def _moment(study: Dataset) -> tuple[str, str]:
    return str(study.get("StudyDate") or ""), str(study.get("StudyTime") or "")


def _may_have_reports(study: Dataset) -> bool:
    """Archives need not tell the modalities of a study (PS3.4 table C.6-5: optional)."""
    told = study.get("ModalitiesInStudy")
    if not told:
        return bool(study.get("StudyDate"))
    modalities = [told] if isinstance(told, str) else list(told)
    return "SR" in modalities and bool(study.get("StudyDate"))
