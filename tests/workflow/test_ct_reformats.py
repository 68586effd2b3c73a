"""A sagittal reformat beside the volume that it was made of becomes no second job; alone it becomes one."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest

from dicom_ai_node.config import Settings
from dicom_ai_node.imaging.write_ct import CtHeader, write_ct_series
from dicom_ai_node.intake.router import route_spooled
from dicom_ai_node.intake.spool import Spool
from dicom_ai_node.workflow.coordinator import Coordinator, Judgement
from dicom_ai_node.workflow.job import Job
from dicom_ai_node.workflow.ledger import Ledger
from tests.workflow.record import Record

AXIAL = np.array([[0.0, 0, 2.0, -50], [0, 2.0, 0, -60], [4.0, 0, 0, -300], [0, 0, 0, 1]])
SAGITTAL = np.array([[4.0, 0, 0, -18], [0, 0, 2.0, -60], [0, -12.0, 0, -200], [0, 0, 0, 1]])
STUDY = "1.2.826.0.1.3680043.8.498.1"


class Site:
    """A node without network and engine: what is spooled becomes jobs when asked."""

    def __init__(self, folder: Path, *, diseases: bool) -> None:
        rules = {"ct": {"sagittal": True, "diseases": diseases, "max_pixel_spacing_mm": 20.0}}
        storage = {"folder": str(folder / "data")}
        self.settings = Settings.model_validate({"routes": rules, "storage": storage})
        self.folder, self.record = folder, Record(lambda: 1e9)
        self.spool = Spool(self.settings.storage.spool_folder)
        judgement = Judgement(
            complete=lambda _series: True, route=lambda series: route_spooled(series.paths, self.settings)
        )
        ledger = cast("Ledger", self.record)
        self.coordinator = Coordinator(self.settings, self.spool, ledger, judgement, now=lambda: 1e9)

    def send(self, name: str, affine: np.ndarray, count: int, image_type: tuple[str, ...]) -> None:
        header = CtHeader(
            image_type=image_type,
            study_instance_uid=STUDY,
            frame_of_reference_uid=f"{STUDY}.9",
            series_description=name,
        )
        voxels = np.full((count, 8, 10), 40, np.int16)
        for path in write_ct_series(voxels, affine, self.folder / name, header=header):
            self.spool.store_file(path)

    def jobs(self) -> dict[str | None, Job]:
        self.coordinator.admit()
        return {run.job.pipeline: run.job for run in self.record.everything}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, diseases=True)


REFORMAT = ("DERIVED", "SECONDARY", "MPR")


def test_a_reformat_alone_is_judged_slice_by_slice(site: Site) -> None:
    site.send("reformat", SAGITTAL, 9, REFORMAT)
    assert set(site.jobs()) == {"ct-sagittal"}


def test_a_reformat_beside_its_volume_carries_nothing_new(site: Site) -> None:
    site.send("reformat", SAGITTAL, 9, REFORMAT)
    site.send("axial", AXIAL, 24, ("ORIGINAL", "PRIMARY", "AXIAL"))
    jobs = site.jobs()
    assert set(jobs) == {"ct-volume", None}
    assert "carry nothing new" in jobs[None].reasons[0]


def test_a_reformat_is_not_reported_beside_its_volume_that_nobody_judges_for_diseases(tmp_path: Path) -> None:
    site = Site(tmp_path, diseases=False)
    site.send("reformat", SAGITTAL, 9, REFORMAT)
    site.send("axial", AXIAL, 24, ("ORIGINAL", "PRIMARY", "AXIAL"))
    jobs = site.jobs()
    assert set(jobs) == {"ct-volume", None}
    assert "diseases = true" in jobs[None].reasons[0]
