"""A series over HTTP: brought, followed, fetched, asked for again, and through a restart."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

from PIL import Image
from pydicom import dcmread

from tests.web.conftest import TOKEN, Interface, MakeInterface
from tests.workflow.peers import SLICES, Archive, ct_series


def test_an_uploaded_series_goes_through_its_states_and_gives_out_its_results(
    interface: Interface, web_archive: Archive, tmp_path: Path
) -> None:
    client = interface.client
    events = interface.follow()
    assert next(events) == ("", {})
    paths = ct_series(tmp_path, 300, words="slow")
    said = interface.upload(paths)
    assert {item["outcome"] for item in said} == {"new"}
    assert interface.upload(paths[:1])[0]["outcome"] == "duplicate"
    series = said[0]["series_instance_uid"]
    assert client.get(f"/series/{series}").json()["state"] == "receiving"

    answer = client.post(f"/series/{series}/complete", json={"instances": None})
    assert answer.status_code == 202
    seen = interface.follow_until(series, "delivered", events)
    order = ["receiving", "waiting", "analysing", "delivering", "delivered"]
    assert sorted(seen, key=order.index) == seen
    # What lasts shorter than the time between two looks may be no event.
    assert {"analysing", "delivered"} <= set(seen)

    state = client.get(f"/series/{series}").json()
    assert (state["state"], state["instances"], state["generation"]) == ("delivered", SLICES, 1)
    assert state["pipeline"] == "ct-volume"
    assert state["carried_by"] is None
    job = state["job"]
    report = client.get(f"/jobs/{job}/report")
    assert report.headers["content-type"] == "application/json"
    assert report.json()["source"]["series_instance_uids"] == [series]
    with Image.open(BytesIO(client.get(f"/jobs/{job}/overlay").content)) as overlay:
        assert (overlay.format, overlay.size) == ("PNG", (64, 96))
    # Only a series of films has more than one of them.
    assert client.get(f"/jobs/{job}/report", params={"film": 1}).content == report.content
    for kind in ("report", "overlay"):
        assert client.get(f"/jobs/{job}/{kind}", params={"film": 2}).status_code == 404
    delivered = dict(web_archive.of_study(said[0]["study_instance_uid"]))
    assert {item["sop_instance_uid"] for item in state["results"]} == set(delivered)
    for item in state["results"]:
        content = client.get(f"/jobs/{job}/results/{item['sop_instance_uid']}")
        assert content.headers["content-type"] == "application/dicom"
        assert len(content.content) == item["bytes"]
        assert content.content.endswith(delivered[item["sop_instance_uid"]])
        (tmp_path / "result.dcm").write_bytes(content.content)
        assert dcmread(tmp_path / "result.dcm").SeriesInstanceUID == item["series_instance_uid"]


def test_the_number_of_instances_makes_the_last_one_the_end(interface: Interface, tmp_path: Path) -> None:
    paths = ct_series(tmp_path, 301)
    series = interface.upload(paths[:-1])[0]["series_instance_uid"]
    said = interface.client.post(f"/series/{series}/complete", json={"instances": SLICES})
    assert said.json()["state"] == "receiving"
    events = interface.follow()
    next(events)
    interface.upload(paths[-1:])
    interface.follow_until(series, "delivered", events)
    assert interface.client.get(f"/series/{series}").json()["instances"] == SLICES


def test_asked_for_again_it_is_a_further_generation_and_the_same_objects(
    interface: Interface, web_archive: Archive, tmp_path: Path
) -> None:
    first = interface.upload(ct_series(tmp_path, 302))[0]
    series = first["series_instance_uid"]
    events = interface.follow()
    next(events)
    # Not yet analysed: this says that it is complete.
    interface.client.post(f"/series/{series}/analyse")
    interface.follow_until(series, "delivered", events)
    once = interface.client.get(f"/series/{series}").json()
    again = interface.client.post(f"/series/{series}/analyse")
    assert (again.status_code, again.json()["generation"]) == (202, 2)
    interface.follow_until(series, "delivered", events)
    twice = interface.client.get(f"/series/{series}").json()
    assert twice["results"] == once["results"]
    sent = web_archive.of_study(first["study_instance_uid"])
    assert len(sent) == 6
    assert len(set(sent)) == 3, "the same bytes under the same names"
    jobs = interface.client.get("/jobs", params={"limit": 2}).json()["jobs"]
    assert [job["job"] for job in jobs] == [twice["job"], once["job"]]
    assert interface.client.post(f"/jobs/{twice['job']}/retry").status_code == 409


def test_a_failed_job_is_tried_again(interface: Interface, tmp_path: Path) -> None:
    series = interface.upload(ct_series(tmp_path, 303, words="broken"))[0]["series_instance_uid"]
    events = interface.follow()
    next(events)
    interface.client.post(f"/series/{series}/complete")
    interface.follow_until(series, "failed", events)
    (job,) = interface.client.get("/jobs", params={"state": "failed"}).json()["jobs"]
    assert "the analysis has a fault" in " ".join(job["reasons"])
    assert interface.client.post(f"/jobs/{job['job']}/retry").status_code == 202
    interface.follow_until(series, "failed", events)
    record = interface.client.get(f"/jobs/{job['job']}").json()
    assert {run["round"] for run in record["runs"]} == {1, 2}


def test_unknown_and_impossible_names_are_not_here(interface: Interface) -> None:
    client = interface.client
    key = "0" * 32
    for path, status in (
        ("/series/1.2.3", 404),
        (f"/jobs/{key}.1", 404),
        (f"/jobs/{key}.1/report", 404),
        (f"/jobs/{key}.1/results/1.2", 404),
        ("/series/..%2f..%2fetc", 404),
        ("/series/abc", 422),
        ("/jobs/..%2f..%2fnode.toml", 404),
        (f"/jobs/{key}.1%00", 422),
        ("/nothing", 404),
    ):
        answer = client.get(path)
        assert answer.status_code == status, path
        assert answer.headers["content-type"] == "application/problem+json"
    assert client.delete("/jobs").status_code == 405
    assert TOKEN not in json.dumps(interface.node.lines)


def test_a_restart_in_the_middle_loses_neither_the_word_nor_the_events(
    make_interface: MakeInterface, web_archive: Archive, tmp_path: Path
) -> None:
    interface = make_interface(web_archive, quiet_seconds=3600.0)
    interface.start()
    events = interface.follow()
    next(events)
    slow, waiting = ct_series(tmp_path / "a", 310, words="slow"), ct_series(tmp_path / "b", 311)
    series = interface.upload(slow)[0]["series_instance_uid"]
    other = interface.upload(waiting)[0]["series_instance_uid"]
    interface.client.post(f"/series/{series}/complete")
    number = next(number for number, said in events if said["state"] == "analysing")
    assert interface.client.post(f"/series/{other}/complete").status_code == 202
    interface.node.kill()
    interface.start()
    resumed = interface.follow(number)
    left = {series, other}
    for _, said in resumed:
        if said and said["state"] == "delivered":
            left.discard(said["series_instance_uid"])
            if not left:
                break
    assert not left
    assert interface.node.terminate() == 0
