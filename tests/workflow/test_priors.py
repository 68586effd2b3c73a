"""A patient's earlier reports: the node finds its own, the newest, and says what changed since."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest
from orthanc import Orthanc, installed
from peers import free_port
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from conformance.studies import GRIDS, Study, make_study
from dicom_ai_node.anatomy import Level
from dicom_ai_node.config import Settings, settings_from
from dicom_ai_node.errors import TransientError
from dicom_ai_node.node.earlier_reports import Asked, EarlierReports
from dicom_ai_node.node.find import STUDY_ROOT_FIND
from dicom_ai_node.node.scu import send
from dicom_ai_node.report import Analysis, Reason, Vertebra
from dicom_ai_node.results.comparison import numbered_otherwise
from dicom_ai_node.results.encode import encode
from dicom_ai_node.results.identity import ResultIdentity
from dicom_ai_node.results.modules import Stamp
from dicom_ai_node.results.prior import read_prior
from dicom_ai_node.results.source import SourceImages, read_source
from dicom_ai_node.results.sr import encode_report
from dicom_ai_node.results.validate import validate
from dicom_ai_node.workflow.handover import JobFolder
from dicom_ai_node.workflow.priors import compare_with_prior
from dicom_ai_node.workflow.steps import Steps
from dicom_ai_node.workflow.worker import _Desk

TODAY = "20240131"
"""The study date of the study that is compared."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    grid = next(grid for grid in GRIDS if grid.name == "sagittal")
    return make_study(grid, tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """One archive for the tests of this module: each has a patient of its own."""
    if not installed():
        pytest.skip("Orthanc is not installed (apt-get install orthanc)")
    orthanc = Orthanc(tmp_path_factory.mktemp("orthanc"))
    orthanc.start()
    yield orthanc
    orthanc.stop()


@dataclass(frozen=True)
class Reports:
    """Makes reports of the study's spine, at other times and of other patients."""

    study: Study
    images: SourceImages
    folder: Path

    def earlier(
        self,
        day: str,
        loss: float,
        *,
        patient: str = "CONF-1",
        change: Callable[[Dataset], None] | None = None,
        vertebrae: Callable[[tuple[Vertebra, ...]], tuple[Vertebra, ...]] = lambda found: found,
        limitations: tuple[Reason, ...] = (),
    ) -> Path:
        """A report of this node of that day, with that loss of height at L1."""
        uid = f"2.25.{day}{sum(map(ord, patient))}"
        header = copy.deepcopy(self.images.header)
        header.StudyInstanceUID, header.StudyDate, header.PatientID = uid, day, patient
        report = self.study.analysis.report
        found = vertebrae(
            tuple(
                replace(item, height_loss=loss, fractured=loss >= 0.2, genant_grade=int(loss >= 0.2))
                if item.level is Level.L1
                else item
                for item in report.vertebrae
            )
        )
        report = replace(report, vertebrae=found, limitations=(*report.limitations, *limitations))
        identity = ResultIdentity.of(uid, ["1.2.3"], report.algorithms)
        source = replace(self.images, header=header)
        dataset = encode_report(Analysis(report), source, identity, Stamp(day, "120000"))
        if change is not None:
            change(dataset)
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        path = self.folder / f"{len(list(self.folder.iterdir()))}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return path

    def of_today(self, patient: str) -> list[Path]:
        """An image of the study that is compared."""
        header = pydicom.dcmread(self.study.source.paths[0])
        header.PatientID = patient
        path = self.folder / f"today-{patient}.dcm"
        header.save_as(path)
        return [path]


@pytest.fixture
def reports(study: Study, tmp_path: Path) -> Reports:
    folder = tmp_path / "reports"
    folder.mkdir()
    return Reports(study, read_source(study.source), folder)


def settings_for(archive: Any, **more: Any) -> Settings:
    where = {
        "ae_title": archive.ae_title,
        "host": archive.host,
        "port": archive.port,
        "timeout_seconds": 30.0,
    }
    return settings_from({"priors": {**where, **more}})


def stored(archive: Orthanc, *paths: Path) -> None:
    assert all(outcome.stored for outcome in send(paths, archive))


def limitation(analysis: Analysis) -> str:
    return " ".join(item.text for item in analysis.report.limitations if item.code == "prior")


def by_somebody_else(dataset: Dataset) -> None:
    dataset.Manufacturer, dataset.ManufacturerModelName = "Other Works", "Reader"
    del dataset.ContributingEquipmentSequence
    dataset.StudyInstanceUID, dataset.SOPInstanceUID = "2.25.991", "2.25.992"


def test_what_a_report_says_is_read_back(study: Study, reports: Reports) -> None:
    prior = read_prior(pydicom.dcmread(reports.earlier("20220304", 0.25)))
    assert prior is not None
    assert (prior.study_date, prior.modality, prior.level_uncertain) == (date(2022, 3, 4), "CT", False)
    for vertebra, told in zip(study.analysis.report, prior, strict=True):
        assert told.level is vertebra.level
        loss = 0.25 if vertebra.level is Level.L1 else vertebra.height_loss
        assert told.height_loss == (None if loss is None else pytest.approx(loss, abs=1e-4))
        assert told.fractured == vertebra.fractured
    assert len({item.tracking_uid for item in prior}) == len(prior.vertebrae)


def test_what_encode_writes_is_read_back_in_every_shape(study: Study, tmp_path: Path) -> None:
    encode(study.analysis, study.source, tmp_path, overlay=False, language="es", box="open")
    prior = read_prior(pydicom.dcmread(tmp_path / "sr.dcm"))
    segments = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    assert prior is not None
    assert [item.tracking_uid for item in prior] == [item.TrackingUID for item in segments]
    losses = {item.level: item.height_loss for item in prior}
    assert losses[Level.T12] == pytest.approx(0.44, abs=1e-4)


def test_somebody_elses_report_is_none_of_ours(reports: Reports) -> None:
    assert read_prior(pydicom.dcmread(reports.earlier("20220304", 0.25, change=by_somebody_else))) is None


def test_the_newest_of_the_patients_own_earlier_reports_is_taken(
    study: Study, reports: Reports, orthanc: Orthanc, tmp_path: Path
) -> None:
    taken = reports.earlier("20220304", 0.22)
    stored(
        orthanc,
        reports.earlier("20200101", 0.04),
        taken,
        reports.earlier("20230501", 0.10, patient="CONF-10"),
        reports.earlier("20230601", 0.05, change=by_somebody_else),
        # A study of tomorrow is no prior of today's.
        reports.earlier("20250101", 0.35),
        # This very study was analysed before: that is no change since.
        reports.earlier(TODAY, 0.02, change=_in_the_study_of(study)),
    )
    compared = compare_with_prior(study.analysis, study.source.paths, settings_for(orthanc))
    assert compared.prior == read_prior(pydicom.dcmread(taken))
    assert limitation(compared) == ""

    objects = encode(compared, study.source, tmp_path / "results", overlay=False)
    validate(objects)
    report = pydicom.dcmread(tmp_path / "results" / "sr.dcm")
    impressions = [item.TextValue for item in _named(report, "121073")]
    line = next(words for words in impressions if words.startswith("L1:"))
    assert "9 percentage points more loss of height than on 2022-03-04" in line
    (said,) = _named(report, "121069")
    assert said.TextValue == "Compared with this node's report on the CT of 2022-03-04."
    again = read_prior(report)
    assert again is not None
    assert compared.prior is not None
    assert [item.tracking_uid for item in again] == [item.tracking_uid for item in compared.prior]


def test_a_study_without_common_vertebrae_gives_way_to_an_older_one(
    study: Study, reports: Reports, orthanc: Orthanc
) -> None:
    def cervical(found: tuple[Vertebra, ...]) -> tuple[Vertebra, ...]:
        return (replace(found[0], level=Level.C5),)

    stored(
        orthanc,
        reports.earlier("20210101", 0.21, patient="NECK"),
        reports.earlier("20220101", 0.21, patient="NECK", vertebrae=cervical),
    )
    today = reports.of_today("NECK")
    found = compare_with_prior(study.analysis, today, settings_for(orthanc)).prior
    assert found is not None
    assert found.study_date == date(2021, 1, 1)
    assert compare_with_prior(study.analysis, today, settings_for(orthanc, studies=1)).prior is None


def test_a_patient_without_earlier_reports_reads_as_before(
    study: Study, reports: Reports, orthanc: Orthanc
) -> None:
    stored(orthanc, reports.earlier("20220304", 0.2, patient="SOMEBODY"))
    today = reports.of_today("NEW")
    assert compare_with_prior(study.analysis, today, settings_for(orthanc)) == study.analysis


def test_vertebrae_that_are_counted_otherwise_are_not_compared(
    study: Study, reports: Reports, orthanc: Orthanc
) -> None:
    def with_t13(found: tuple[Vertebra, ...]) -> tuple[Vertebra, ...]:
        names = [Level.T12, Level.T13, *(item.level for item in found[2:])]
        return tuple(replace(item, level=level) for item, level in zip(found, names, strict=True))

    stored(orthanc, reports.earlier("20220304", 0.2, patient="T13", vertebrae=with_t13))
    # T12 stands in both only if the study of today shows it too: it does, with L1 below.
    compared = compare_with_prior(study.analysis, reports.of_today("T13"), settings_for(orthanc))
    assert compared.prior is None
    assert "Not compared with the report of 2022-03-04: one of both reports counts T13" in limitation(
        compared
    )


@pytest.mark.parametrize("then", [True, False])
def test_uncertain_names_are_not_compared(study: Study, reports: Reports, then: bool) -> None:
    unsure = (Reason("level-uncertain", "They are counted from L1 by their looks."),)
    prior = read_prior(pydicom.dcmread(reports.earlier("20220304", 0.2, limitations=unsure if then else ())))
    assert prior is not None
    report = study.analysis.report
    now = report if then else replace(report, limitations=unsure)
    why = numbered_otherwise(now, prior)
    assert why == f"the numbering of {'the earlier' if then else 'this'} report is uncertain"


def test_an_archive_that_is_absent_costs_a_comparison_and_nothing_else(study: Study, tmp_path: Path) -> None:
    absent = SimpleNamespace(ae_title="NOBODY", host="127.0.0.1", port=free_port())
    compared = compare_with_prior(study.analysis, study.source.paths, settings_for(absent))
    assert compared.prior is None
    assert limitation(compared) == "NOBODY could not be asked for earlier reports."
    objects = encode(compared, study.source, tmp_path, overlay=False)
    validate(objects)
    printed = [item.TextValue for item in _named(pydicom.dcmread(tmp_path / "sr.dcm"), "121106")]
    assert "NOBODY could not be asked for earlier reports." in printed


@pytest.mark.parametrize(("offers_get", "status"), [(False, 0x0000), (True, 0xA700)])
def test_an_archive_that_refuses_is_named(study: Study, offers_get: bool, status: int) -> None:
    entity = AE("REFUSING")
    entity.add_supported_context(STUDY_ROOT_FIND)
    if offers_get:
        entity.add_supported_context("1.2.840.10008.5.1.4.1.2.2.3")

    def answer(_event: evt.Event) -> Iterator[tuple[int, None]]:
        yield status, None

    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, answer)])
    try:
        peer = SimpleNamespace(ae_title="REFUSING", host="127.0.0.1", port=server.server_address[1])
        asked = Asked.about(pydicom.dcmread(study.source.paths[0], stop_before_pixels=True))
        with pytest.raises(TransientError, match="C-GET refused" if not offers_get else "status A700H"):
            EarlierReports(peer).newest(asked, lambda _reports: None)
    finally:
        server.shutdown()


def test_images_that_name_no_patient_are_not_asked_about(study: Study, reports: Reports) -> None:
    nobody = SimpleNamespace(ae_title="NOBODY", host="127.0.0.1", port=1)
    compared = compare_with_prior(study.analysis, reports.of_today(""), settings_for(nobody))
    assert limitation(compared) == "The images name no patient or no study date."


def test_another_date_of_birth_or_issuer_is_another_person() -> None:
    asked = Asked("4711", "HOSPITAL A", "19500101", "1.2", TODAY, "")
    told = Dataset()
    told.PatientID, told.IssuerOfPatientID, told.PatientBirthDate = "4711", "", "19500101"
    assert asked.is_patient_of(told)
    told.PatientBirthDate = "19500102"
    assert not asked.is_patient_of(told)
    told.PatientBirthDate, told.IssuerOfPatientID = "", "HOSPITAL B"
    assert not asked.is_patient_of(told)
    told.PatientID, told.IssuerOfPatientID = "471", "HOSPITAL A"
    assert not asked.is_patient_of(told)


def test_a_repeat_encodes_the_same_bytes_though_the_archive_has_gone(
    study: Study, reports: Reports, orthanc: Orthanc, tmp_path: Path
) -> None:
    """The earlier report is kept with the analysis: what comes later to the archive changes nothing."""
    stored(orthanc, reports.earlier("20220304", 0.2, patient="AGAIN"))
    today = reports.of_today("AGAIN")
    settings = settings_for(orthanc)
    asked: list[Path] = []

    def compare(analysis: Analysis, paths: Any) -> Analysis:
        asked.extend(paths)
        return compare_with_prior(analysis, paths, settings)

    steps = Steps(
        lambda _pipeline, _paths, _progress: (study.analysis, study.source),
        lambda analysis, source, folder: encode(analysis, source, folder, overlay=False),
        validate,
        lambda _paths: study.source,
        compare,
    )
    job = JobFolder(tmp_path / "job")
    job.write_input(today)
    request = {"pipeline": "ct", "refusal": None, "left_out": "", "modality": "CT"}
    first = _Desk(steps)
    first.analyse(job, request, lambda _name, _done: None)
    first.encode(job)
    report = (job.results / "sr.dcm").read_bytes()
    assert read_prior(pydicom.dcmread(job.results / "sr.dcm")) is not None
    assert b"2022-03-04" in report

    stored(orthanc, reports.earlier("20230304", 0.2, patient="AGAIN"))
    for file in job.results.iterdir():
        file.unlink()
    job.results.rmdir()
    # Another process after the node was killed: the analysis is there, the results are not.
    second = _Desk(steps)
    second.analyse(job, request, lambda _name, _done: None)
    second.encode(job)
    second.validate(job)
    assert (job.results / "sr.dcm").read_bytes() == report
    assert asked == today


def _in_the_study_of(study: Study) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        dataset.StudyInstanceUID = study.analysis.report.source.study_instance_uid

    return change


def _named(report: Dataset, value: str) -> Iterator[Dataset]:
    for item in report.get("ContentSequence", ()):
        if item.get("ConceptNameCodeSequence") and item.ConceptNameCodeSequence[0].CodeValue == value:
            yield item
        yield from _named(item, value)
