"""The digital spine: one anatomy, described once, seen by a CT scanner, with its truth.

    spine = sample_spine(7, fractures={Level.L1: ("wedge", 2)})
    acquisition = sample_ct_acquisition(7, spine)
    phantom = render_ct(spine, acquisition)
    phantom.hu, phantom.affine, phantom.labels, phantom.whole_labels, phantom.truth

`spine` describes a person in patient LPS millimetres and knows no image. `painting` puts a person on any
grid with the numbers of any `Palette`; `ct` is the physics of CT. `training_cases` makes labelled CTs to
learn from.

Diseases are part of the person: `SpineOptions(diseases="rich")`, or exactly these,
`SpineOptions(diseases={Level.L1: (Disease.KD, Disease.PS)})`; wear of discs is `degeneration`. Without them
the phantom is, byte for byte, the one that knew no diseases.

Truth (`truth.json`): the keys of a report's vertebrae, so that both can be compared at once; see `truth`
for every key and `truth_schema` for the JSON schema. Label maps hold VerSe numbers (S1 is 26);
`painting` tells of the numbers of discs, canal and lesions.

Needs only numpy and torch. Statistics of spine curves and pedicles: ImFusion VID, 2,116 CT spines, CC BY-SA
4.0 (`fit_statistics`); sizes: Panjabi 1991, 1992. The same seed gives the same bytes on a CPU.
"""

from dicom_ai_node.phantom.ct import CtAcquisition, CtPhantom, render_ct, sample_ct_acquisition, tilted
from dicom_ai_node.phantom.ct_reformat import reformat_grid, reformatted
from dicom_ai_node.phantom.disease import Disease, Features
from dicom_ai_node.phantom.lesion import LesionKind
from dicom_ai_node.phantom.painting import CANAL_LABEL, DISC_LABEL
from dicom_ai_node.phantom.spine import Spine, SpineOptions, Vertebra, sample_spine
from dicom_ai_node.phantom.training_cases import (
    TrainingCase,
    plane_acquisition,
    render_training_case,
    upright_acquisition,
    visible_levels,
)
from dicom_ai_node.phantom.truth import body_frame, truth, truth_schema

__all__ = [
    "CANAL_LABEL",
    "DISC_LABEL",
    "CtAcquisition",
    "CtPhantom",
    "Disease",
    "Features",
    "LesionKind",
    "Spine",
    "SpineOptions",
    "TrainingCase",
    "Vertebra",
    "body_frame",
    "plane_acquisition",
    "reformat_grid",
    "reformatted",
    "render_ct",
    "render_training_case",
    "sample_ct_acquisition",
    "sample_spine",
    "tilted",
    "truth",
    "truth_schema",
    "upright_acquisition",
    "visible_levels",
]
