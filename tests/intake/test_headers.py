"""Whether pixel data is there and whole is seen without decoding it."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.intake.headers import read_instance


def rewritten(path: Path, syntax: str) -> Path:
    dataset = pydicom.dcmread(path)
    if syntax == RLELossless:
        dataset.compress(RLELossless)
        dataset.save_as(path)
        return path
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    little = syntax != ExplicitVRBigEndian
    if not little:
        # pydicom swaps no pixels
        raw = dataset.PixelData
        dataset.PixelData = b"".join(raw[k : k + 2][::-1] for k in range(0, len(raw), 2))
    pydicom.dcmwrite(
        path, dataset, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little, force_encoding=True
    )
    return path


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.1", ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless]
)
def test_whole_pixel_data_has_no_complaint_and_every_cut_has_one(write_series, syntax: str) -> None:
    path = rewritten(write_series(1)[0], syntax)
    whole = read_instance(path)
    assert whole.complaint is None
    assert whole.header.Rows == 8
    data = path.read_bytes()
    for cut in (1, 2, 50, 100):
        path.write_bytes(data[:-cut])
        complaint = read_instance(path).complaint
        assert complaint is not None
        assert "(7FE0,0010)" in complaint


def test_missing_pixel_data_is_named(write_series, change) -> None:
    (path,) = write_series(1)
    change(path, PixelData=None)
    assert "7FE0,0010" in (read_instance(path).complaint or "")


def test_file_without_preamble_is_read(write_series) -> None:
    (path,) = write_series(1)
    dataset = pydicom.dcmread(path)
    dataset.preamble = None
    del dataset.file_meta
    pydicom.dcmwrite(path, dataset, implicit_vr=True, little_endian=True)
    assert path.read_bytes()[128:132] != b"DICM"
    found = read_instance(path)
    assert found.header.SOPInstanceUID == dataset.SOPInstanceUID
    assert found.complaint is None


@pytest.mark.parametrize("content", [b"", b"dear colleague", bytes(1000), b"\xff" * 1000])
def test_what_is_no_dicom_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(content)
    with pytest.raises(UnreadableInstance, match=r"letter\.txt"):
        read_instance(path)


def test_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInstance, match=r"none\.dcm: the file cannot be opened"):
        read_instance(tmp_path / "none.dcm")


def test_every_cut_of_a_file_is_read_or_refused(write_series) -> None:
    (path,) = write_series(1)
    data = path.read_bytes()
    refused = complained = 0
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        try:
            complained += read_instance(path).complaint is not None
        except UnreadableInstance:
            refused += 1
    assert refused > 0
    # nothing cut short passes as whole
    assert refused + complained == len(range(0, len(data), 7))
