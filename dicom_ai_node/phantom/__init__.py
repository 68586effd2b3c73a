"""The digital spine: one anatomy, described once, seen by scanners, with its truth.

    spine = sample_spine(7, fractures={Level.L1: ("wedge", 2)})
    acquisition = sample_ct_acquisition(7, spine)
    phantom = render_ct(spine, acquisition)
    phantom.hu, phantom.affine, phantom.labels, phantom.whole_labels, phantom.truth

    study = sample_mr_study(7, spine)
    phantom = render_mr(spine, study[-1])
    phantom.pixels, phantom.structures, phantom.lesions

`spine` describes a person in patient LPS millimetres and knows no image. `painting` puts a person on any
grid with the numbers of any `Palette`; `ct` is the physics of CT, `mr` that of MR. `training_cases` and
`mr_training_cases` make labelled images to learn from.

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
from dicom_ai_node.phantom.mr import MrAcquisition, MrPhantom, render_mr
from dicom_ai_node.phantom.mr_study import sample_mr_series, sample_mr_study
from dicom_ai_node.phantom.mr_training_cases import MrTrainingCase, render_mr_training_case
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
    "MrAcquisition",
    "MrPhantom",
    "MrTrainingCase",
    "Spine",
    "SpineOptions",
    "TrainingCase",
    "Vertebra",
    "body_frame",
    "plane_acquisition",
    "reformat_grid",
    "reformatted",
    "render_ct",
    "render_mr",
    "render_mr_training_case",
    "render_training_case",
    "sample_ct_acquisition",
    "sample_mr_series",
    "sample_mr_study",
    "sample_spine",
    "tilted",
    "truth",
    "truth_schema",
    "upright_acquisition",
    "visible_levels",
]
