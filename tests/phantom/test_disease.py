"""Diseases: asked ones are there, their signs are as frequent as published, the rest of the person stays."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom import (
    CtAcquisition,
    Disease,
    Spine,
    SpineOptions,
    render_ct,
    render_training_case,
    sample_spine,
    truth,
    truth_schema,
)
from dicom_ai_node.phantom.disease import (
    BENIGN,
    BENIGN_COUNTS,
    COLLAPSES,
    MALIGNANT,
    MALIGNANT_COUNTS,
    Features,
    draw_benign,
    draw_malignant,
)
from dicom_ai_node.phantom.disease_plan import DiseaseWish, plan_diseases
from dicom_ai_node.phantom.randomness import stream
from dicom_ai_node.report import Deformity

D, L = Disease, Level
VALIDATOR = jsonschema.Draft202012Validator(truth_schema())
SHAPE = ("absence_of_collapse", "anterior_wedge", "whole_body_compression", "central_concavity")


def person(
    seed: int, diseases: DiseaseWish, fractures: dict[Level, tuple[Deformity, int]] | None = None
) -> Spine:
    return sample_spine(
        seed, fractures=fractures, options=SpineOptions(age=68.0, supernumerary="none", diseases=diseases)
    )


def digest(*parts: bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:24]


def test_a_person_without_diseases_is_the_same_whatever_becomes_of_the_diseases() -> None:
    """Pinned: a change of the disease code must not change a person without diseases.

    Who changes the healthy person on purpose (shapes, marrow fat, the physics of CT) takes new digests.
    """
    spine = sample_spine(3, fractures={L.L1: ("wedge", 2), L.T11: ("crush", 3)})
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 5.0], [0, 5.0, 0], [5.0, 0, 0]])
    affine[:3, 3] = spine[L.T12].frame[:3, 3] - [40.0, 50.0, 50.0]
    phantom = render_ct(spine, CtAcquisition((20, 20, 16), affine, 5.0, resolution_mm=4.0, seed=5))
    shapes = [[v[key] for key in ("six_points", "heights_mm", "corners")] for v in phantom.truth["vertebrae"]]
    assert [v["disease"] for v in phantom.truth["vertebrae"] if v["disease"]] == [["OVCF"], ["OVCF"]]
    assert not phantom.lesions.any()
    assert {
        "shapes": digest(json.dumps(shapes).encode()),
        "marrow": digest(repr([vertebra.matter for vertebra in spine.vertebrae]).encode()),
        "labels": digest(phantom.labels.tobytes(), phantom.whole_labels.tobytes()),
        "hu": digest(phantom.hu.tobytes()),
    } == {
        "shapes": "2260d8b8c47346a73c03add7",
        "marrow": "feabc0f968a0f20054e50fcd",
        "labels": "041727a81fbdfb450026feba",
        "hu": "29a923f6c4e935bcddc239fb",
    }


def test_asking_for_no_disease_by_an_empty_list_is_asking_for_none() -> None:
    none, empty = person(3, "none", {}), person(3, {}, {})
    assert repr(none.vertebrae) == repr(empty.vertebrae)


def test_a_training_case_without_diseases_is_as_it_was() -> None:
    """Pinned, as above."""
    case = render_training_case(17, 5.0, width_mm=80.0)
    assert digest(case.hu.tobytes()) == "cd0928b7ab68f90568640470"
    assert digest(case.labels.tobytes()) == "050b89fe54e583d6e75dec0e"


@pytest.mark.parametrize("benign", [True, False])
def test_features_are_as_frequent_as_in_table_1_of_p4(benign: bool) -> None:
    generator = np.random.default_rng(1)
    drawn = [draw_benign(generator) if benign else draw_malignant(generator) for _ in range(4000)]
    counts, of = (BENIGN_COUNTS, BENIGN) if benign else (MALIGNANT_COUNTS, MALIGNANT)
    for name, count in counts.items():
        if name in SHAPE:
            continue
        share = np.mean([getattr(features, name) for features in drawn])
        expected = count / of
        assert abs(share - expected) < 4.0 * np.sqrt(max(expected, 0.002) / 4000), name
    if benign:
        assert not any(f.band_oedema and f.diffuse_change for f in drawn)
        assert not any(f.homogeneous_marrow and (f.dark_line or f.band_oedema) for f in drawn)


def test_malignant_fractures_have_the_shapes_of_table_1_of_p4() -> None:
    levels = person(0, "none", {}).levels
    kinds: list[str] = []
    for seed in range(600):
        plan = plan_diseases(seed, {L.L1: (D.MALIGNANT,)}, levels, 60.0, {}, asked=False)
        kinds.append(plan.fractures.get(L.L1, ("none", 0))[0])
    absent = MALIGNANT_COUNTS["absence_of_collapse"] / MALIGNANT
    diffuse = MALIGNANT_COUNTS["diffuse_change"] / MALIGNANT
    # Bodies with a nodule only do not break.
    assert abs(kinds.count("none") / 600 - (1 - diffuse * (1 - absent))) < 0.08
    assert kinds.count("crush") > kinds.count("biconcave") > kinds.count("wedge")


@pytest.mark.parametrize("disease", list(Disease))
def test_an_asked_disease_is_in_the_truth_and_no_other_is(disease: Disease) -> None:
    for seed in (1, 2):
        told = truth(person(seed, {L.L3: (disease,)}))
        assert VALIDATOR.is_valid(told)
        assert json.loads(json.dumps(told)) == told
        ill = {entry["level"]: entry for entry in told["vertebrae"] if entry["disease"]}
        assert list(ill) == ["L3"]
        entry = ill["L3"]
        assert entry["disease"] == [disease.value]
        assert (entry["features"] is not None) == (disease in COLLAPSES | {D.MALIGNANT})
        kinds = {lesion["kind"] for lesion in entry["lesions"]}
        expected = {
            D.SN: "schmorl",
            D.KD: "cleft",
            D.PS: "cement",
            D.HAEMANGIOMA: "haemangioma",
            D.LIMBUS: "limbus",
        }
        assert expected.get(disease) in {None, *kinds}
        assert entry["fractured"] or disease not in {D.OF, D.KD}
        if disease is D.MALIGNANT:
            assert kinds & {"lytic", "blastic", "mixed"}
            assert entry["features"]["absence_of_collapse"] != entry["fractured"]


def test_several_diseases_can_be_had_at_once() -> None:
    asked = {L.L1: (D.KD, D.SN, D.PS), L.T11: (D.MALIGNANT, D.HAEMANGIOMA), L.L3: (D.PS,), L.L4: (D.PS,)}
    told = {entry["level"]: entry for entry in truth(person(6, asked))["vertebrae"]}
    assert told["L1"]["disease"] == ["KD", "SN", "PS"]
    assert {"cleft", "schmorl", "cement"} <= {lesion["kind"] for lesion in told["L1"]["lesions"]}
    assert "metal" in {lesion["kind"] for lesion in told["L3"]["lesions"]}
    assert told["T11"]["features"]["skip_lesion"] is False
    assert told["L1"]["features"]["skip_lesion"] is True


def test_a_fracture_that_is_asked_for_gets_its_disease() -> None:
    told = truth(person(4, {L.T12: (D.OF,)}, {L.T12: ("crush", 2), L.L2: ("wedge", 1)}))
    found = {
        e["level"]: (e["disease"], e["deformity"], e["genant_grade"])
        for e in told["vertebrae"]
        if e["disease"]
    }
    assert found == {"T12": (["OF"], "crush", 2), "L2": (["OVCF"], "wedge", 1)}


def test_a_disease_leaves_all_other_vertebrae_where_they_were() -> None:
    sound, ill = person(8, "none", {}), person(8, {L.L2: (D.SN, D.HAEMANGIOMA)}, {})
    for before, after in zip(truth(sound)["vertebrae"], truth(ill)["vertebrae"], strict=True):
        assert before["six_points"] == after["six_points"]
        assert before["corners"] == after["corners"]
    assert [a.seed for a in sound.vertebrae] == [b.seed for b in ill.vertebrae]


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({L.L1: (D.OVCF, D.OF)}, "fresh"),
        ({L.L1: (D.MALIGNANT, D.KD)}, "benign or malignant"),
        ({L.C4: (D.OVCF,)}, "T4 to L5"),
        ({L.L6: (D.SN,)}, "does not exist"),
        ({L.L1: ("gout",)}, "no disease"),
    ],
)
def test_what_cannot_be_is_refused(asked: DiseaseWish, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        person(1, asked)


def test_a_rich_population_has_everything_and_its_truth_holds() -> None:
    seen: set[str] = set()
    # Eight persons who between them have everything.
    for seed in (2, 6, 7, 8, 10, 11, 13, 18):
        spine = sample_spine(
            seed, options=SpineOptions(diseases="rich", degeneration="rich", sacralised=None)
        )
        told = truth(spine)
        assert VALIDATOR.is_valid(told)
        for entry in told["vertebrae"]:
            seen.update(entry["disease"])
            features = entry["features"]
            if features is not None and "malignant" not in entry["disease"]:
                assert features["homogeneous_marrow"] == ("OF" in entry["disease"])
            if entry["fractured"]:
                assert entry["disease"], entry["level"]
                assert entry["height_loss"] >= 0.2 > entry["loss_before"]
    assert seen == {disease.value for disease in Disease}


def test_realistic_people_are_mostly_healthy_and_rich_ones_are_not() -> None:
    levels = person(0, "none", {}).levels
    counts = {
        wish: np.array(
            [len(plan_diseases(k, wish, levels, 65.0, {}, asked=False).diseases) for k in range(300)]
        )
        for wish in ("realistic", "rich")
    }
    assert 0.5 < counts["realistic"].mean() < 2.5
    assert 0.3 < (counts["realistic"] == 0).mean() < 0.8
    assert counts["rich"].mean() > 2.0 * counts["realistic"].mean()


def test_streams_of_a_disease_depend_on_its_level_only() -> None:
    one = person(3, {L.L2: (D.HAEMANGIOMA,)}, {})[L.L2].findings
    both = person(3, {L.L2: (D.HAEMANGIOMA,), L.T9: (D.MALIGNANT,)}, {})[L.L2].findings
    assert repr(one) == repr(both)
    features = draw_malignant(stream(3, "disease", "features", "T9"))
    assert person(3, {L.T9: (D.MALIGNANT,)}, {})[L.T9].features == replace(features, absence_of_collapse=True)
    assert isinstance(features, Features)
