"""What is stored in Orthanc comes back analysed, once, and nothing else in Orthanc changes."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
from peers import NodeProcess
from PIL import Image

from dicom_ai_node.imaging.mr_habits import MrKind
from tests.imaging.mr_files import SAGITTAL, made_by, write
from tests.orthanc.spine_orthanc import SpineOrthanc, small_ct, uids

RESULTS = ["OT", "SEG", "SR"]
"""Modalities of what the fast steps make of a series."""


def test_a_stored_study_gets_its_results_without_any_further_call(
    archive: SpineOrthanc, node: NodeProcess, tmp_path: Path
) -> None:
    study, series = uids(paths := small_ct(tmp_path, 1000, words="spine"))
    archive.store(paths)
    said = archive.wait_for_state(series, "delivered")
    assert archive.modalities(study) == ["CT", *RESULTS]
    assert {result["kind"] for result in said["results"]} == {"sr", "seg", "pr"}
    (job,) = [item.job for item in node.summaries() if item.job.series_instance_uid == series]
    assert job.instances == len(paths)
    assert said["job"] == job.id
    metadata = archive.get(f"series/{said['series']}/metadata?expand")
    assert (metadata["SpineState"], metadata["SpineJob"]) == ("delivered", job.id)
    assert metadata["SpineVersion"] == archive.status()["node"]["version"]
    status, report = archive.ask("GET", f"spine/series/{said['series']}/report")
    assert status == 200
    assert [vertebra["level"] for vertebra in json.loads(report)["vertebrae"]] == ["L1"]
    status, overlay = archive.ask("GET", f"spine/series/{said['series']}/overlay")
    assert status == 200
    assert overlay.startswith(b"\x89PNG")


def test_every_lateral_film_of_a_series_is_shown(archive: SpineOrthanc, tmp_path: Path) -> None:
    _, series = uids(paths := small_ct(tmp_path, 1010, words="films"))
    archive.store(paths)
    said = archive.wait_for_state(series, "delivered")
    assert (said["films"], said["findings"]) == (2, "film 1: L1; film 2: L2")

    def ask(rest: str) -> tuple[int, bytes]:
        return archive.ask("GET", f"spine/series/{said['series']}/{rest}")

    levels = [json.loads(ask(f"report{film}")[1])["vertebrae"][0]["level"] for film in ("", "?film=2")]
    assert levels == ["L1", "L2"]
    pictures = [Image.open(BytesIO(ask(f"overlay{film}")[1])).getpixel((0, 0)) for film in ("", "?film=2")]
    assert pictures == [(0, 0, 128), (128, 0, 0)]
    for wrong in ("3", "0", "-1", "two", "99999"):
        assert ask(f"report?film={wrong}")[0] == 404


def test_results_are_marked_and_not_offered_again(
    archive: SpineOrthanc, node: NodeProcess, tmp_path: Path
) -> None:
    _, series = uids(paths := small_ct(tmp_path, 1001))
    archive.store(paths)
    said = archive.wait_for_state(series, "delivered")
    results = {result["series"] for result in said["results"]}
    stable = archive.wait(
        lambda: [archive.get(f"series/{name}") for name in results],
        lambda found: all(item["IsStable"] for item in found),
    )
    archive.wait(archive.status, lambda status: status["changes"]["read"] == last_change(archive))
    assert archive.status()["queue"]["series"] == 0
    own = {item["MainDicomTags"]["SeriesInstanceUID"] for item in stable}
    assert own.isdisjoint(item.job.series_instance_uid for item in node.summaries())
    for name in results:
        assert archive.get(f"spine/series/{name}")["state"] == "result"
        status, answer = archive.ask("POST", f"spine/series/{name}/analyse", b"")
        assert (status, "result" in json.loads(answer)["reason"]) == (409, True)


def last_change(archive: SpineOrthanc) -> int:
    return int(archive.get("changes?last")["Last"])


def test_a_person_can_have_a_series_analysed_again(archive: SpineOrthanc, tmp_path: Path) -> None:
    study, series = uids(paths := small_ct(tmp_path, 1002))
    archive.store(paths)
    first = archive.wait_for_state(series, "delivered")
    status, answer = archive.ask("POST", f"spine/series/{first['series']}/analyse", b"")
    assert (status, json.loads(answer)["state"]) == (202, "queued")
    second = archive.wait(
        lambda: archive.state(series),
        lambda said: said["state"] == "delivered" and said["job"] != first["job"],
    )
    assert second["generation"] == first["generation"] + 1
    assert archive.modalities(study) == ["CT", *RESULTS], "the same results have the same names"


def test_images_that_come_late_are_analysed_with_the_others(
    archive: SpineOrthanc, node: NodeProcess, tmp_path: Path
) -> None:
    study, series = uids(paths := small_ct(tmp_path, 1003, slices=6))
    archive.store(paths[:3])
    first = archive.wait_for_state(series, "delivered")
    archive.store(paths[3:])

    def instances(job: str) -> int:
        return next(item.job.instances for item in node.summaries() if item.job.id == job)

    second = archive.wait(
        lambda: archive.state(series),
        lambda said: said["state"] == "delivered" and instances(said["job"]) == 6,
    )
    assert second["generation"] > first["generation"]
    report = json.loads(archive.ask("GET", f"spine/series/{second['series']}/report")[1])
    assert report["vertebrae"][0]["mean_hu"] == 6.0, "the fast steps count images"
    assert len(archive.modalities(study)) >= 7, "those of the first analysis stay"


def test_what_the_rules_leave_out_is_analysed_when_a_person_asks(
    archive: SpineOrthanc, node: NodeProcess, tmp_path: Path
) -> None:
    study, series = uids(paths := small_ct(tmp_path, 1004, words="Test Object"))
    archive.store(paths)
    archive.wait(
        lambda: archive.get(f"series/{archive.series(series)}"), lambda found: bool(found["IsStable"])
    )
    archive.wait(archive.status, lambda status: status["changes"]["read"] == last_change(archive))
    said = archive.state(series)
    assert said["state"] == "not-offered"
    assert said["reasons"] == ["rule 1 of SpineNode.Exclude matches"]
    name = archive.get(f"series/{said['series']}")["ParentStudy"]
    status, answer = archive.ask("POST", f"spine/studies/{name}/analyse", b"")
    assert (status, json.loads(answer)["reason"]) == (409, said["reasons"][0])
    assert archive.ask("POST", f"spine/series/{said['series']}/analyse", b"")[0] == 202
    archive.wait_for_state(series, "delivered")
    assert archive.modalities(study) == ["CT", *RESULTS]


def test_a_series_that_cannot_be_analysed_says_why(archive: SpineOrthanc, tmp_path: Path) -> None:
    study, series = uids(paths := small_ct(tmp_path, 1005, words="refuse"))
    archive.store(paths)
    said = archive.wait_for_state(series, "not-analysable")
    assert any("send the lumbar spine" in reason for reason in said["reasons"])
    assert "SR" in archive.modalities(study), "the reason is a result"


def test_a_series_that_fails_says_so_and_orthanc_is_none_the_worse(
    archive: SpineOrthanc, tmp_path: Path
) -> None:
    study, series = uids(paths := small_ct(tmp_path, 1006, words="broken"))
    archive.store(paths)
    said = archive.wait_for_state(series, "failed")
    assert any("fault" in reason for reason in said["reasons"])
    assert archive.modalities(study) == ["CT"]


def test_fifty_studies_at_once_all_get_their_results(archive: SpineOrthanc, tmp_path: Path) -> None:
    found = {}
    for number in range(50):
        study, series = uids(small_ct(tmp_path / str(number), 1100 + number))
        found[series] = study
    archive.store(sorted(tmp_path.rglob("*.dcm")))
    for series, study in found.items():
        archive.wait_for_state(series, "delivered")
        assert archive.modalities(study) == ["CT", *RESULTS]
    assert archive.wait(archive.status, lambda status: status["queue"]["series"] == 0)


def test_a_series_deleted_while_it_is_analysed_leaves_nothing_behind(
    archive: SpineOrthanc, node: NodeProcess, tmp_path: Path
) -> None:
    _, series = uids(paths := small_ct(tmp_path, 1007, words="slow"))
    archive.store(paths)
    said = archive.wait_for_state(series, "waiting", "analysing")
    study = archive.get(f"series/{said['series']}")["ParentStudy"]
    assert archive.ask("DELETE", f"studies/{study}")[0] == 200
    node.wait_until(
        lambda found: any(item.job.series_instance_uid == series and item.state is not None for item in found)
    )
    archive.wait(archive.status, lambda status: status["queue"]["series"] == 0)
    assert archive.ask("GET", f"studies/{study}")[0] == 404
    assert archive.ask("GET", f"spine/series/{said['series']}")[0] == 404


def test_a_study_has_the_state_of_its_series(archive: SpineOrthanc, tmp_path: Path) -> None:
    _, series = uids(paths := small_ct(tmp_path, 1008))
    archive.store(paths)
    said = archive.wait_for_state(series, "delivered")
    study = archive.get(f"series/{said['series']}")["ParentStudy"]
    whole = archive.get(f"spine/studies/{study}")
    assert whole["state"] == "delivered"
    assert sorted(item["state"] for item in whole["series"]) == ["delivered", "result", "result", "result"]
    assert archive.ask("GET", "spine/studies/0-0-0-0-0")[0] == 404
    assert archive.ask("GET", f"spine/series/{said['series']}/analyse")[0] == 405


def test_an_mr_series_whose_partner_comes_late_shows_what_was_found_on_both(
    archive: SpineOrthanc, tmp_path: Path
) -> None:
    _, t2 = uids(paths := sagittal_mr(tmp_path, "t2"))
    archive.store(paths)
    alone = archive.wait_for_state(t2, "delivered")
    _, t1 = uids(paths := sagittal_mr(tmp_path, "t1"))
    archive.store(paths)
    partner = archive.wait_for_state(t1, "delivered")
    assert partner["carried_by"] == t2
    together = archive.wait(
        lambda: archive.state(t2),
        lambda said: said["state"] == "delivered" and said["job"] != alone["job"],
    )
    assert partner["carrier"] == together["series"]
    seen = [archive.ask("GET", f"spine/series/{said['series']}/report") for said in (partner, together)]
    assert seen[0] == seen[1]
    assert seen[0][0] == 200


def sagittal_mr(folder: Path, kind: MrKind) -> list[Path]:
    """A small series; those of both kinds are of one study and one place."""
    header = made_by("siemens", kind, 5, study_identity="plugin", patient_id="P1", omit=())
    affine = SAGITTAL @ np.diag([1.0, 0.7, 0.7, 1.0])
    return list(write(folder / kind, header, seed=5, affine=affine, shape=(6, 128, 12)))
