"""A compressed segmentation reaches every archive: as it is where that is taken, unpacked where it is not."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from pynetdicom import AE, evt

from conformance.studies import GRIDS, make_study
from dicom_ai_node.node.scu import send
from dicom_ai_node.presets import Compression
from dicom_ai_node.results.encode import encode
from dicom_ai_node.results.rendition import SEGMENTATION_SOP_CLASSES, Rendition
from tests.workflow.orthanc import Orthanc, installed

PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


@dataclass
class Place:
    port: int
    ae_title: str = "ARCHIVE"
    host: str = "127.0.0.1"


@pytest.fixture(scope="module")
def label_map(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Compression], Path]:
    """The label map of one study, by its compression."""
    folder = tmp_path_factory.mktemp("label-maps")
    study = make_study(next(grid for grid in GRIDS if grid.name == "sagittal"), folder / "source")
    compressions: tuple[Compression, ...] = ("none", "rle", "deflated")
    renditions = [Rendition(segmentation="labelmap", compression=item) for item in compressions]
    written = encode(study.analysis, study.source, folder / "results", renditions=renditions, overlay=False)
    paths = {item.variant: item.path for item in written if item.kind == "seg"}
    return lambda compression: paths[f"labelmap-{compression}"]


@dataclass
class Picky:
    """An archive that takes some transfer syntaxes only."""

    syntaxes: tuple[UID, ...]
    port: int = 0
    ae_title: str = "ARCHIVE"
    host: str = "127.0.0.1"
    received: list[tuple[UID, bytes, FileDataset]] = field(default_factory=list)

    def __enter__(self) -> Picky:
        self._entity = AE(self.ae_title)
        self._entity.add_supported_context(SEGMENTATION_SOP_CLASSES["labelmap"], list(self.syntaxes))
        server = self._entity.start_server(
            (self.host, 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        assert server is not None
        self.port = server.server_address[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._entity.shutdown()

    def _store(self, event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        self.received.append((event.context.transfer_syntax, event.request.DataSet.getvalue(), dataset))
        return 0x0000


def pixels(path: Path) -> np.ndarray:
    return np.asarray(dcmread(path).pixel_array)


@pytest.mark.parametrize(
    ("compression", "syntax"), [("rle", RLELossless), ("deflated", DeflatedExplicitVRLittleEndian)]
)
def test_an_archive_that_takes_it_gets_the_bytes_of_the_file(label_map, compression, syntax):
    with Picky((syntax, *PLAIN)) as archive:
        (outcome,) = send([label_map(compression)], archive)
    assert outcome.stored, outcome.text
    ((used, data, _),) = archive.received
    assert used == syntax
    assert label_map(compression).read_bytes().endswith(data)


@pytest.mark.parametrize("compression", ["rle", "deflated"])
@pytest.mark.parametrize("syntax", PLAIN)
def test_an_archive_that_does_not_gets_the_same_object_unpacked(label_map, compression, syntax):
    with Picky((syntax,)) as archive:
        (outcome,) = send([label_map(compression)], archive)
    assert outcome.stored, outcome.text
    ((used, _, dataset),) = archive.received
    assert used == syntax
    sent = dcmread(label_map(compression))
    assert dataset.SOPInstanceUID == sent.SOPInstanceUID
    assert dataset.PhotometricInterpretation == "PALETTE COLOR"
    np.testing.assert_array_equal(dataset.pixel_array, pixels(label_map("none")))


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """DCMTK's archive with further options."""
    program = shutil.which("storescp", path="/usr/bin")
    if program is None:
        pytest.skip("storescp is not installed")
    running = []

    def start(*options: str) -> Place:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        (tmp_path / "store").mkdir(exist_ok=True)
        running.append(subprocess.Popen([program, *options, "-od", str(tmp_path / "store"), str(port)]))
        deadline = time.monotonic() + 60
        while subprocess.run(["/usr/bin/echoscu", "127.0.0.1", str(port)], check=False).returncode != 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return Place(port)

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.parametrize("compression", ["rle", "deflated"])
def test_dcmtk_stores_what_was_compressed(label_map, storescp, tmp_path, compression):
    # Its list of SOP classes ends before 2024.
    place = storescp("--promiscuous")
    (outcome,) = send([label_map(compression)], place)
    assert outcome.stored, outcome.text
    (stored,) = (tmp_path / "store").iterdir()
    np.testing.assert_array_equal(pixels(stored), pixels(label_map("none")))


def test_an_archive_that_knows_no_label_maps_gets_the_rest_and_the_way_out_is_named(label_map, storescp):
    paths = [label_map("none"), label_map("none").with_name("pr-1.dcm")]
    refused, state = send(paths, storescp())
    assert state.stored
    assert not refused.stored
    assert "accepts no context" in refused.text
    assert "another form" in refused.text


@pytest.mark.skipif(not installed(), reason="Orthanc is not installed")
def test_orthanc_stores_what_was_compressed(label_map, tmp_path):
    archive = Orthanc(tmp_path / "orthanc", UnknownSopClassAccepted=True)
    archive.start()
    try:
        for compression in ("rle", "deflated"):
            (outcome,) = send([label_map(compression)], archive)
            assert outcome.stored, outcome.text
        # One object, whatever it was packed in.
        (data,) = archive.instance_bytes().values()
        (tmp_path / "kept.dcm").write_bytes(data)
        np.testing.assert_array_equal(pixels(tmp_path / "kept.dcm"), pixels(label_map("none")))
    finally:
        archive.stop()
