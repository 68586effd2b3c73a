"""English."""

from __future__ import annotations

from typing import Final

from dicom_ai_node.report import REASON_CODES
from dicom_ai_node.results.language.words import Language

ENGLISH: Final = Language(
    tag="en",
    meaning="English",
    decimal_sign=".",
    date_format="%Y-%m-%d",
    levels={"C": "C", "T": "T", "L": "L", "S": "S"},
    run="{first} to {last}",
    percent="{} %",
    research_use="RESEARCH USE ONLY",
    finding="{level}: {words}.",
    fractures={
        "wedge": (
            "wedge fracture",
            "mild wedge fracture",
            "moderate wedge fracture",
            "severe wedge fracture",
        ),
        "biconcave": (
            "biconcave fracture",
            "mild biconcave fracture",
            "moderate biconcave fracture",
            "severe biconcave fracture",
        ),
        "crush": (
            "crush fracture",
            "mild crush fracture",
            "moderate crush fracture",
            "severe crush fracture",
        ),
        "none": (
            "vertebral fracture",
            "mild vertebral fracture",
            "moderate vertebral fracture",
            "severe vertebral fracture",
        ),
    },
    deformities={
        "wedge": (
            "wedge deformity",
            "mild wedge deformity",
            "moderate wedge deformity",
            "severe wedge deformity",
        ),
        "biconcave": (
            "biconcave deformity",
            "mild biconcave deformity",
            "moderate biconcave deformity",
            "severe biconcave deformity",
        ),
        "crush": (
            "crush deformity",
            "mild crush deformity",
            "moderate crush deformity",
            "severe crush deformity",
        ),
        "none": ("deformity", "mild deformity", "moderate deformity", "severe deformity"),
    },
    not_a_fracture="{}, not called a fracture",
    suspected="possible {}",
    no_fracture="no fracture",
    abnormal_only="abnormal, no fracture",
    height_loss="{} loss of height",
    genant="Genant grade {}",
    fracture_probability="fracture probability {}",
    likely="likely {kind} ({share})",
    possibly="possibly {kind} ({share})",
    acuities={"acute": "acute", "chronic": "chronic", "pathologic": "pathologic"},
    malignancies={"benign": "benign", "malignant": "malignant"},
    on_slices="on {slices} of {of} sagittal slices",
    dark="dark on {weighting} ({ratio} of its neighbours)",
    bright="bright on {weighting} ({ratio} of its neighbours)",
    none_broken="No vertebral fracture found in {}.",
    others_not_broken="No fracture found in {}.",
    not_judged="{level} could not be judged: {why}",
    not_analysable="The images could not be analysed: {}",
    no_vertebra="No vertebra was found.",
    no_reason="No reason was given.",
    provenance="{research_use}. Output of artificial intelligence ({models}), not validated clinically; to "
    "be checked on the images.",
    unnamed_models="no model was asked",
    alternatives="The level {level} could also be {others}.",
    stands_out="Stands out: {}",
    classes={
        "acute": "acute fracture",
        "chronic": "chronic fracture",
        "pathologic": "pathologic fracture",
        "benign": "benign",
        "malignant": "malignant",
        "OVCF": "osteoporotic compression fracture",
        "OF": "old fracture",
        "SN": "Schmorl's node",
        "KD": "Kümmell's disease",
        "PS": "previous surgery",
        "normal": "normal",
    },
    algorithm="Algorithm {name} {version}, weights sha256 {hash}, device UID {uid}",
    thresholds="Genant grades by loss of height: mild from {mild}, moderate above {moderate}, severe above "
    "{severe}.",
    malignant_threshold="Called malignant from a probability of {} on.",
    reasons={code: f"{words[0].upper()}{words[1:]}." for code, words in REASON_CODES.items()},
    compared="Compared with this node's report on the {images} of {day}.",
    images={"CT": "CT", "MR": "MR", "film": "radiograph"},
    new_since="new since {day}",
    new_since_loss="new since {day} ({loss} then)",
    fracture_before="called a fracture in the report of {day}",
    unchanged="loss of height unchanged since {day}",
    more_loss="{points} percentage points more loss of height than on {day}",
    less_loss="{points} percentage points less loss of height than on {day}, which a fracture does not do: "
    "check level and measurement",
)
