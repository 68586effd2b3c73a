"""Every destination gets its kinds in its form, and nothing is encoded that nobody wants."""

from __future__ import annotations

import tomllib
from pathlib import Path

from dicom_ai_node.config import Settings, settings_from
from dicom_ai_node.results.rendition import Rendition, distinct
from dicom_ai_node.workflow.renditions import deliveries, rendition_of, renditions


def settings(text: str) -> Settings:
    return settings_from(tomllib.loads(text))


def destination(name: str, text: str = "") -> str:
    return f'[[destinations]]\nname = "{name}"\nae_title = "A"\nhost = "h"\nport = 104\n{text}\n'


def test_without_a_destination_results_are_made_as_the_results_section_says() -> None:
    assert renditions(settings("")) == (Rendition(),)
    labelmap = settings('[results]\nsegmentation = "labelmap"\ncompression = "rle"')
    assert renditions(labelmap) == (Rendition(segmentation="labelmap", compression="rle"),)


def test_what_two_destinations_want_alike_is_encoded_once() -> None:
    text = destination("one") + destination("two", 'preset = "slicer"') + destination("three")
    forms = renditions(settings(text))
    assert len(forms) == 2
    assert [
        item.segmentation_variant for item in distinct(forms, "seg", lambda i: i.segmentation_variant)
    ] == ["binary-none"]


def test_each_destination_takes_its_own_variant_and_what_has_none() -> None:
    found = settings(
        destination("maps", 'segmentation = "labelmap"\ncompression = "deflated"')
        + destination("viewer", 'preset = "ohif"')
        + destination("films", 'preset = "weasis-horos"')
    )
    maps, viewer, films = (rendition_of(item, found.results) for item in found.destinations)
    assert maps.takes("seg", "labelmap-deflated")
    assert not maps.takes("seg", "binary-none")
    assert viewer.takes("seg", "binary-none")
    assert not viewer.takes("pr", "")
    assert maps.takes("pr", "")
    # A report goes with the segmentation that it points at, and points at none where none goes along.
    assert maps.takes("sr", "labelmap-closed")
    assert viewer.takes("sr", "binary-closed")
    assert films.takes("sr", "alone-closed")
    assert not films.takes("sr", "binary-closed")
    assert not films.takes("seg", "binary-none")


def test_every_destination_is_sent_the_files_of_its_form(tmp_path: Path) -> None:
    found = settings(
        f'[storage]\nfolder = "{tmp_path}"\n'
        + destination("maps", 'segmentation = "labelmap"')
        + destination("viewer", 'preset = "ohif"')
        + destination("pictures", 'preset = "plain-pacs"')
    )
    objects = [
        {"kind": kind, "file": file, "variant": variant}
        for kind, file, variant in (
            ("seg", "seg.dcm", "labelmap-none"),
            ("seg", "seg-binary-none.dcm", "binary-none"),
            ("reformat", "reformat.dcm", ""),
            ("pr", "pr-1.dcm", ""),
            ("sr", "sr.dcm", "labelmap-closed"),
            ("sr", "sr-binary-closed.dcm", "binary-closed"),
            ("sc", "sc-1.dcm", ""),
            ("pdf", "pdf.dcm", ""),
        )
    ]
    assert deliveries(objects, found) == {
        "maps": ["seg.dcm", "reformat.dcm", "pr-1.dcm", "sr.dcm"],
        "viewer": ["seg-binary-none.dcm", "reformat.dcm", "sr-binary-closed.dcm", "pdf.dcm"],
        "pictures": ["sc-1.dcm"],
    }


def test_a_record_of_an_earlier_version_knows_no_variants_and_is_delivered_all_the_same() -> None:
    found = settings(destination("archive"))
    objects = [{"kind": kind, "file": f"{kind}.dcm"} for kind in ("seg", "sr", "sc")]
    assert deliveries(objects, found) == {"archive": ["seg.dcm", "sr.dcm"]}
