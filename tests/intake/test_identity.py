"""The identity of an instance: the same as pydicom reads, for every file and encoding, and never a crash."""

from __future__ import annotations

import tracemalloc
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.imaging.header import reading_quietly
from dicom_ai_node.intake.identity import InstanceIdentity, read_identity
from dicom_ai_node.intake.part10 import read_file

EXPECTED = InstanceIdentity(str(CTImageStorage), "1.2.3.4", "1.2.3", "1.2.3.5", "CT")


def header(*, nested: bool = False) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.Modality = "CT"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.5"
    dataset.InstanceNumber = 7
    dataset.PixelData = b"\1\0" * 100
    dataset["PixelData"].VR = "OW"
    if nested:
        item = Dataset()
        # a SOP Instance UID inside a sequence is someone else's
        item.ReferencedSOPClassUID = "1.9"
        item.SOPInstanceUID = "1.9.9"
        item.PurposeOfReferenceCodeSequence = Sequence([Dataset()])
        dataset.ReferencedImageSequence = Sequence([item, item])
        for sequence in dataset.ReferencedImageSequence, item.PurposeOfReferenceCodeSequence:
            sequence.is_undefined_length = True
            for entry in sequence:
                entry.is_undefined_length_sequence_item = True
        dataset["ReferencedImageSequence"].is_undefined_length = True
    return dataset


def encoded(dataset: Dataset, syntax: str) -> bytes:
    implicit = syntax == ImplicitVRLittleEndian
    little = syntax != ExplicitVRBigEndian
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = implicit, little
    write_dataset(file, dataset)
    raw = file.getvalue()
    if syntax == DeflatedExplicitVRLittleEndian:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        raw = deflater.compress(raw) + deflater.flush()
    return raw


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        pydicom.uid.JPEG2000Lossless,
    ],
)
def test_identity_is_read_in_every_encoding(syntax: str, nested: bool) -> None:
    assert read_identity(encoded(header(nested=nested), syntax), syntax) == EXPECTED


@pytest.mark.parametrize(
    "keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
@pytest.mark.parametrize("value", [None, ""])
def test_missing_uid_is_named(keyword: str, value: str | None) -> None:
    dataset = header()
    if value is None:
        delattr(dataset, keyword)
    else:
        setattr(dataset, keyword, value)
    with pytest.raises(UnreadableInstance, match=f"{keyword}.*missing"):
        read_identity(encoded(dataset, ExplicitVRLittleEndian), ExplicitVRLittleEndian)


def test_missing_modality_is_no_fault() -> None:
    dataset = header()
    del dataset.Modality
    identity = read_identity(encoded(dataset, ExplicitVRLittleEndian), ExplicitVRLittleEndian)
    assert identity.modality == ""


def test_pixels_need_not_be_whole() -> None:
    data = encoded(header(), ExplicitVRLittleEndian)
    assert read_identity(data[:-150], ExplicitVRLittleEndian) == EXPECTED


def test_every_cut_of_a_data_set_is_read_or_refused() -> None:
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        data = encoded(header(nested=True), syntax)
        answers = set()
        for length in range(len(data)):
            try:
                answers.add(read_identity(data[:length], syntax))
            except UnreadableInstance:
                answers.add(None)
        assert answers <= {None, EXPECTED} | {
            # the cut went through the last UID that is read
            InstanceIdentity(str(CTImageStorage), "1.2.3.4", "1.2.3", "1.2.3.5"[:length], "CT")
            for length in range(1, 8)
        }
        assert answers >= {None, EXPECTED}


@given(st.binary(max_size=400), st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian]))
@example(b"\x08\x00\x16\x00SQ\x00\x00\xff\xff\xff\xff" * 100, ExplicitVRLittleEndian)
@example(b"\x08\x00\x16\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 100, ImplicitVRLittleEndian)
def test_garbage_is_refused_and_nothing_else_happens(data: bytes, syntax: str) -> None:
    with pytest.raises(UnreadableInstance), reading_quietly():
        read_identity(data, syntax)


def test_small_data_that_inflates_to_much_takes_little_memory() -> None:
    deflater = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    bomb = b"".join(deflater.compress(bytes(2**24)) for _ in range(8)) + deflater.flush()
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableInstance), reading_quietly():
            read_identity(bomb, DeflatedExplicitVRLittleEndian)
        assert tracemalloc.get_traced_memory()[1] < 2**26 < 8 * 2**24
    finally:
        tracemalloc.stop()


def test_real_files_are_read_as_pydicom_reads_them(shared_data: Path) -> None:
    compared = 0
    for path in sorted((shared_data / "dicom").rglob("*")):
        if not path.is_file():
            continue
        try:
            meta, data_set = read_file(path)
            found = read_identity(data_set, meta.transfer_syntax_uid)
        except UnreadableInstance:
            continue
        with reading_quietly():
            truth = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            assert found == InstanceIdentity(
                *(
                    str(truth.get(keyword) or "").strip()
                    for keyword in (
                        "SOPClassUID",
                        "SOPInstanceUID",
                        "StudyInstanceUID",
                        "SeriesInstanceUID",
                        "Modality",
                    )
                )
            ), path
        compared += 1
    assert compared > 200
