"""What stands beside a vertebra on the image: short, and in the language of the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from conformance import checks
from dicom_ai_node.anatomy import Level
from dicom_ai_node.report import Vertebra
from dicom_ai_node.results.canvas import canvases_of_slices
from dicom_ai_node.results.encode import encode
from dicom_ai_node.results.identity import ResultIdentity
from dicom_ai_node.results.labels import label_text
from dicom_ai_node.results.language import LANGUAGES
from dicom_ai_node.results.modules import Stamp
from dicom_ai_node.results.presentation import encode_presentation
from dicom_ai_node.results.rendition import Rendition
from dicom_ai_node.results.source import read_source
from dicom_ai_node.results.validate import validate
from dicom_ai_node.results.views import views_on_slices

OTHERS = [tag for tag in LANGUAGES if tag != "en"]

BROKEN = Vertebra(
    Level.L1,
    0.9,
    height_loss=0.314,
    genant_grade=2,
    fractured=True,
    classes={"radiograph-acuity": {"acute": 0.7, "chronic": 0.2, "pathologic": 0.1}},
)
OTHER_FINDINGS = (
    Vertebra(Level.L3, 0.9, diseases=("OF", "KD")),
    Vertebra(Level.T9, 0.9, malignant=True, abnormal=("dark on T1: 0.61 of its neighbours",)),
    Vertebra(Level.T10, 0.9, abnormal=("dark on T1: 0.61 of its neighbours",)),
    Vertebra(Level.L5, 0.9, status="not-analysable"),
    Vertebra(Level.L4, 0.9, genant_grade=0, height_loss=0.05),
)


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("en", ["L1 G2 -31% acute", "L3 OF, KD", "T9 malignant?", "T10 abnormal", "L5 not judged", "L4"]),
        (
            "de",
            [
                "L1 G2 -31% akut",
                "L3 alte Fraktur, Kümmell",
                "T9 maligne?",
                "T10 auffällig",
                "L5 nicht beurteilt",
                "L4",
            ],
        ),
        (
            "fr",
            [
                "L1 G2 -31% récente",
                "L3 fracture ancienne, Kümmell",
                "T9 maligne?",
                "T10 anormale",
                "L5 non évaluée",
                "L4",
            ],
        ),
        (
            "es",
            [
                "L1 G2 -31% aguda",
                "L3 fractura antigua, Kümmell",
                "T9 maligna?",
                "T10 anormal",
                "L5 no valorada",
                "L4",
            ],
        ),
    ],
)
def test_labels_follow_the_language_and_levels_do_not(tag: str, words: list[str]) -> None:
    assert [label_text(item, LANGUAGES[tag]) for item in (BROKEN, *OTHER_FINDINGS)] == words


@pytest.fixture(scope="module")
def state_in(encoded) -> Callable[..., pydicom.FileDataset]:
    """The sagittal study's presentation state in a language, of a source in any character set."""
    study = encoded("sagittal").study
    images = read_source(study.source)
    ((canvas, drawn),) = canvases_of_slices(
        views_on_slices(study.analysis, images), images, study.source.volume
    )
    identity = ResultIdentity.of(images.study_instance_uid, ["1.2.3"], study.analysis.report.algorithms)

    def make(
        tag: str, charset: str | None = "ISO_IR 100", name: str = "Conformance^Spine"
    ) -> pydicom.FileDataset:
        header = Dataset()
        header.update(images.header)
        header.PatientName = name
        if charset is None:
            del header.SpecificCharacterSet
        else:
            header.SpecificCharacterSet = charset
        return encode_presentation(
            study.analysis,
            replace(images, header=header),
            identity,
            Stamp("20240131", "083000"),
            views=drawn,
            canvas=canvas,
            language=LANGUAGES[tag],
        )

    return make


def texts(state: Dataset) -> list[str]:
    return [
        text.UnformattedTextValue
        for annotation in state.GraphicAnnotationSequence
        for text in annotation.get("TextObjectSequence", ())
    ]


@pytest.mark.parametrize("tag", OTHERS)
def test_only_the_words_of_a_presentation_state_differ_between_languages(state_in, tag: str) -> None:
    def graphics(state: Dataset) -> list[tuple[str, str]]:
        return [
            (annotation.GraphicLayer, str(annotation.get("GraphicObjectSequence")))
            for annotation in state.GraphicAnnotationSequence
        ]

    english, other = state_in("en"), state_in(tag)
    assert graphics(english) == graphics(other)
    assert english.GraphicLayerSequence == other.GraphicLayerSequence
    assert f"L5 {LANGUAGES[tag].picture.not_judged}" in texts(other)
    assert [text.split()[0] for text in texts(other) if text[0] in "TL"] == [
        text.split()[0] for text in texts(english) if text[0] in "TL"
    ]
    assert english.SOPInstanceUID != other.SOPInstanceUID
    assert english.SeriesInstanceUID == other.SeriesInstanceUID


@pytest.mark.parametrize(
    ("charset", "name", "notice"),
    [
        ("ISO_IR 100", "Müller^Jörg", "KI - NUR FÜR FORSCHUNGSZWECKE"),
        ("ISO_IR 192", "Müller^Jörg", "KI - NUR FÜR FORSCHUNGSZWECKE"),
        (None, "Mueller^Joerg", "KI - NUR FÜR FORSCHUNGSZWECKE"),
        ("ISO_IR 144", "Люкceмбypг", "KI - NUR FUER FORSCHUNGSZWECKE"),
    ],
)
def test_labels_fit_the_character_set_of_the_names(
    state_in, tmp_path: Path, charset, name: str, notice: str
) -> None:
    state_in("de", charset, name).save_as(tmp_path / "pr-1.dcm", enforce_file_format=True)
    read = pydicom.dcmread(tmp_path / "pr-1.dcm")
    assert read.SpecificCharacterSet == (charset or "ISO_IR 100")
    assert str(read.PatientName) == name
    assert notice in texts(read)


@pytest.mark.parametrize("tag", OTHERS)
def test_validators_find_no_fault_in_labels_of_any_language(
    state_in, tmp_path: Path, with_tools, tag: str
) -> None:
    state_in(tag).save_as(tmp_path / "pr-1.dcm", enforce_file_format=True)
    assert with_tools(checks.dciodvfy, tmp_path / "pr-1.dcm") == []


def test_results_in_two_languages_may_lie_in_one_archive(encoded, tmp_path: Path) -> None:
    study = encoded("sagittal").study
    kinds = ("seg", "sr", "pr", "sc", "pdf")
    found = {}
    for tag in ("en", "fr"):
        objects = encode(
            study.analysis,
            study.source,
            tmp_path / tag,
            renditions=[Rendition(kinds=kinds)],
            language=tag,
        )
        validate(objects)
        found[tag] = {item.kind: item.sop_instance_uid for item in objects}
    assert found["en"].keys() == found["fr"].keys() == set(kinds)
    # What has no words in it is the same object.
    same = {kind for kind in kinds if found["en"][kind] == found["fr"][kind]}
    assert same == {"seg"}
