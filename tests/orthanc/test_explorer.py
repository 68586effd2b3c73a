"""Orthanc Explorer in a browser: the badge says how a series stands, the button has it analysed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.orthanc.spine_orthanc import SpineOrthanc, small_ct, uids

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]
PATIENCE_MS = 120_000


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield page
        browser.close()


def test_explorer_shows_the_state_and_the_button_has_a_study_analysed(
    archive: SpineOrthanc, page: Page, tmp_path: Path
) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    _, series = uids(paths := small_ct(tmp_path, 3000, words="spine"))
    archive.store(paths)
    said = archive.wait_for_state(series, "delivered")
    study = archive.get(f"series/{said['series']}")["ParentStudy"]
    patient = archive.get(f"studies/{study}")["ParentPatient"]

    explorer = f"{archive.url}/app/explorer.html"
    page.goto(f"{explorer}#study?uuid={study}")
    panel = page.locator("#study .spine-panel")
    expect(panel.locator(".spine-badge")).to_have_text("Spine: analysed")
    expect(panel).to_contain_text("L1")
    expect(panel.get_by_text("Report (JSON)")).to_be_visible()
    expect(panel.locator("img")).to_have_js_property("naturalWidth", 64)
    rows = page.locator("#list-series .spine-badge")
    expect(rows).to_have_count(4)
    assert sorted(rows.all_text_contents()) == ["Spine: analysed", *["Spine: result of the node"] * 3]
    page.screenshot(path=tmp_path / "study.png")

    page.goto(f"{explorer}#patient?uuid={patient}")
    badge = page.locator(f"#list-studies a[href='#study?uuid={study}'] .spine-badge")
    expect(badge).to_have_text("Spine: analysed")

    page.goto(f"{explorer}#series?uuid={said['series']}")
    panel = page.locator("#series .spine-panel")
    expect(panel.locator(".spine-badge")).to_have_text("Spine: analysed")
    panel.locator(".spine-analyse").click()
    again = archive.wait(
        lambda: archive.state(series),
        lambda now: now["state"] == "delivered" and now["job"] != said["job"],
    )
    assert again["generation"] == said["generation"] + 1
    expect(panel.locator(".spine-badge")).to_have_text("Spine: analysed")
    page.screenshot(path=tmp_path / "series.png")
    assert errors == []


def test_explorer_says_why_nothing_can_be_asked_of_a_result(
    archive: SpineOrthanc, page: Page, tmp_path: Path
) -> None:
    _, series = uids(paths := small_ct(tmp_path, 3001))
    archive.store(paths)
    said = archive.wait_for_state(series, "delivered")
    page.goto(f"{archive.url}/app/explorer.html#series?uuid={said['results'][0]['series']}")
    panel = page.locator("#series .spine-panel")
    expect(panel.locator(".spine-badge")).to_have_text("Spine: result of the node")
    expect(panel.locator(".spine-analyse")).to_have_count(0)


def test_explorer_shows_the_picture_and_the_report_of_every_film(
    archive: SpineOrthanc, page: Page, tmp_path: Path
) -> None:
    _, series = uids(paths := small_ct(tmp_path, 3002, words="films"))
    archive.store(paths)
    said = archive.wait_for_state(series, "delivered")
    page.goto(f"{archive.url}/app/explorer.html#series?uuid={said['series']}")
    pictures = page.locator("#series .spine-panel img")
    expect(pictures).to_have_count(2)
    second = pictures.nth(1)
    expect(second).to_have_attribute("alt", "Film 2: Findings")
    expect(second).to_have_js_property("naturalWidth", 64)
    report = page.locator("#series .spine-panel").get_by_text("Film 2: Report (JSON)")
    expect(report).to_have_attribute("href", f"../spine/series/{said['series']}/report?film=2")
    page.screenshot(path=tmp_path / "films.png")
