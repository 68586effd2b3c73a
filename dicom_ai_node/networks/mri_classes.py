"""What the classifier of P4 says: benign or malignant, and the 15 features of the paper's table 1."""

from __future__ import annotations

from typing import Final

CLASSES: Final = ("benign", "malignant")

FEATURES: Final = (
    "absence_of_collapse",
    "anterior_wedge",
    "whole_body_compression",
    "central_concavity",
    "homogeneous_marrow",
    "dark_line",
    "band_oedema",
    "dark_patch",
    "cleft",
    "diffuse_change",
    "mass",
    "protrusion",
    "soft_tissue_mass",
    "posterior_elements",
    "skip_lesion",
)
"""P4, table 1, in its order; the words are those of the phantom's truth."""

ABSENCES: Final = frozenset({"absence_of_collapse", "homogeneous_marrow"})
"""Features that every slice must show: a body has them as far as its least convincing slice does, all others
as far as its most convincing one."""

OUTPUTS: Final = ("malignant", *FEATURES)
"""The channels of `mri_classifier.MriClassifier`, a logit each."""
