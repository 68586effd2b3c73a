"""Labelled sagittal CT slices for `train` and `evaluate`: those of a folder, NIfTI images among them."""

from __future__ import annotations

from pathlib import Path

from dicom_ai_node.imaging.nifti import read_nifti_slice
from dicom_ai_node.training.ct_slice_folders import load_labelled_slices
from dicom_ai_node.training.ct_slices import CtSlice


def labelled_slices(folder: Path, *, every_body: bool = True) -> list[CtSlice]:
    """See `load_labelled_slices`."""
    return load_labelled_slices(
        folder, every_body=every_body, read={".nii": read_nifti_slice, ".nii.gz": read_nifti_slice}
    )
