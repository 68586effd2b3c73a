"""Labelled sagittal CT slices for `train` and `evaluate`: those of a folder, NIfTI images among them."""

from __future__ import annotations

from pathlib import Path

from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.imaging.nifti import read_nifti_slice
from dicom_ai_node.networks.ct_diseases import DISEASES
from dicom_ai_node.training.ct_slice_folders import load_labelled_slices
from dicom_ai_node.training.ct_slices import CtSlice


def labelled_slices(folder: Path, *, every_body: bool = True) -> list[CtSlice]:
    """See `load_labelled_slices`."""
    return load_labelled_slices(
        folder, every_body=every_body, read={".nii": read_nifti_slice, ".nii.gz": read_nifti_slice}
    )


def diseased_slices(folder: Path) -> list[CtSlice]:
    """The labelled slices of a folder from which diseases can be learned; all their bodies need no box.

    Raises:
        ConfigurationError: no body is labelled with a disease; and as `load_labelled_slices`.
    """
    slices = labelled_slices(folder, every_body=False)
    if not any((one.diseases == 1).any() for one in slices):
        raise ConfigurationError(
            f"no box in {folder} has a disease; label some with {', '.join(DISEASES)}, the others as normal"
        )
    return slices
