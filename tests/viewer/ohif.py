"""The OHIF viewer in headless Chromium, driven as a reader drives it."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from playwright.sync_api import BrowserContext, Page, sync_playwright

CHROMIUM: Final = "/usr/bin/chromium"
PATIENCE_MS: Final = 180_000

_IN_SOFTWARE: Final = (
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)
_ROW: Final = '[data-cy="study-browser-thumbnail-no-image"]:has-text("{}")'
_YES: Final = '[data-cy="yes-hydrate-btn"]'
_VIEWPORT: Final = "window.cornerstone.getEnabledElements()[0].viewport"
_RENDERED: Final = (
    "() => window.cornerstone && window.cornerstone.getEnabledElements().length"
    f" && {_VIEWPORT}.viewportStatus === 'rendered'"
)

Picture = npt.NDArray[np.uint8]
"""RGB, shape (rows, columns, 3)."""


@contextmanager
def chromium() -> Iterator[BrowserContext]:
    """A browser without a screen; its graphics are computed by the processor."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_IN_SOFTWARE))
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.set_default_timeout(PATIENCE_MS)
        # A guided tour would lie over everything.
        context.add_init_script("localStorage.setItem('shownTours', '[\"basicViewerTour\"]')")
        yield context
        browser.close()


class Ohif:
    """One study on the screen.

    Args:
        context: a browser.
        url: of the viewer.
        study_instance_uid: shown once this returns.
    """

    def __init__(self, context: BrowserContext, url: str, study_instance_uid: str) -> None:
        self.page: Page = context.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(f"{url}/viewer?StudyInstanceUIDs={study_instance_uid}")
        self.page.wait_for_selector(_ROW.format("SR"))
        self.page.wait_for_function(_RENDERED)

    def close(self) -> None:
        self.page.close()

    def preview(self, modality: str) -> None:
        """Opens a segmentation (SEG) or a report (SR); the viewer asks whether it should be loaded."""
        self.page.dblclick(_ROW.format(modality))
        self.page.wait_for_selector(_YES)

    def look_only(self) -> None:
        """Says no: what was opened stays on the screen as it is."""
        self.page.click('[data-cy="no-hydrate-btn"]')
        self.page.wait_for_selector(_YES, state="detached")

    def load(self) -> None:
        """Says yes."""
        self.page.click(_YES)
        self.page.wait_for_selector(_YES, state="detached")
        # The viewport is made anew.
        self.picture()

    def image_on_screen(self) -> str:
        """SOP Instance UID."""
        name = str(self.page.evaluate(f"() => {_VIEWPORT}.getCurrentImageId()"))
        return name.split("/instances/")[1].partition("/")[0]

    def scroll_to(self, sop_instance_uid: str) -> None:
        """Shows another image of the same series."""
        self.page.evaluate(
            f"async uid => {{ const view = {_VIEWPORT};"
            " const index = view.getImageIds().findIndex(name => name.includes(`/instances/${uid}/`));"
            " await view.setImageIdIndex(index); view.render(); }",
            sop_instance_uid,
        )
        assert self.image_on_screen() == sop_instance_uid

    def canvas(self) -> tuple[float, float, float, float]:
        """Left, top, width, height of the viewport on the page."""
        self.page.wait_for_function(_RENDERED)
        left, top, width, height = self.page.evaluate(
            f"() => {{ const box = {_VIEWPORT}.element.getBoundingClientRect();"
            " return [box.left, box.top, box.width, box.height]; }"
        )
        return left, top, width, height

    def picture(self) -> Picture:
        """The page once it no longer changes."""
        self.page.wait_for_function(_RENDERED)
        deadline = time.monotonic() + PATIENCE_MS / 1000
        before = self._shot()
        while True:
            self.page.wait_for_timeout(400)
            now = self._shot()
            if np.array_equal(now, before) or time.monotonic() > deadline:
                return now
            before = now

    def words_on_image(self) -> str:
        """What is written over the image, which is something."""
        # OHIF at times draws what lies on an image that was not on the screen before only when asked again.
        self.page.wait_for_function(
            "() => { if (document.querySelector('.cornerstone-viewport-element svg text tspan')) return true;"
            f" window.cornerstoneTools.utilities.triggerAnnotationRenderForViewportIds([{_VIEWPORT}.id]);"
            " return false; }",
            polling=1000,
        )
        written: Any = self.page.evaluate(
            "() => [...document.querySelectorAll('.cornerstone-viewport-element svg text tspan')]"
            ".map(item => item.textContent).join('\\n')"
        )
        return str(written)

    def measurements(self) -> list[str]:
        """The rows of the panel of measurements."""
        self.page.click('[data-cy="trackedMeasurements-btn"]')
        self.page.wait_for_selector('[data-cy="data-row"]')
        return [
            " ".join(text.split()) for text in self.page.locator('[data-cy="data-row"]').all_inner_texts()
        ]

    def _shot(self) -> Picture:
        with Image.open(io.BytesIO(self.page.screenshot())) as picture:
            return np.asarray(picture.convert("RGB"))
