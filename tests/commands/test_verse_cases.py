"""Folders in VerSe's layout become cases: centres, bodies without arches, grades."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.cli import app
from dicom_ai_node.commands.verse_cases import centroids_mm, labelled_ct
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.imaging.nifti import read_nifti, write_label_map
from dicom_ai_node.training.metrics import dice
from dicom_ai_node.training.whole_vertebrae import axes_along, body_of_vertebra

LEVELS = (Level.T12, Level.L1, Level.L2)
STEP_MM = 1.5
# Axes of the array run to the right, down and to the back, as VerSe's files do after reading.
AFFINE = np.array(
    [[-STEP_MM, 0, 0, 40.0], [0, 0, STEP_MM, -30.0], [0, -STEP_MM, 0, 100.0], [0, 0, 0, 1]], dtype=np.float64
)
SHAPE = (44, 90, 60)


def _vertebra(middle: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(body, arch) about a row: a block, two pedicles beside a canal, and a process."""
    body, arch = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    rows = slice(middle - 9, middle + 10)
    body[8:36, rows, 8:28] = True
    for pedicle in (slice(10, 15), slice(29, 34)):
        arch[pedicle, middle - 4 : middle + 3, 28:40] = True
    arch[10:34, middle - 4 : middle + 6, 40:52] = True
    return body, arch


def write_case(folder: Path, name: str = "sub-a") -> dict[Level, npt.NDArray[np.bool_]]:
    """A case as VerSe lays it out, in rawdata and derivatives; the bodies in it."""
    raw, derived = folder / "rawdata" / name, folder / "derivatives" / name
    raw.mkdir(parents=True)
    derived.mkdir(parents=True)
    labels, image = np.zeros(SHAPE, dtype=np.uint8), np.full(SHAPE, 20, dtype=np.uint8)
    bodies, centroids = {}, []
    for number, level in enumerate(LEVELS):
        middle = 15 + 28 * number
        bodies[level], arch = _vertebra(middle)
        labels[bodies[level] | arch] = verse_label(level)
        place = np.argwhere(bodies[level]).mean(axis=0)
        # X, Y, Z run to P, I, R: the array's last, middle and first axis.
        centroids.append({"label": verse_label(level), "X": place[2], "Y": place[1], "Z": place[0]})
    image[labels > 0] = 200
    write_label_map(raw / f"{name}_ct.nii.gz", image, AFFINE)
    write_label_map(derived / f"{name}_seg-vert_msk.nii.gz", labels, AFFINE)
    text = json.dumps([{"direction": ["P", "I", "R"]}, *centroids])
    (derived / f"{name}_seg-subreg_ctd.json").write_text(text)
    return bodies


def test_cases_have_the_names_centres_and_bodies_of_the_folder(tmp_path: Path) -> None:
    bodies = write_case(tmp_path)
    (case,) = labelled_ct(tmp_path, STEP_MM)
    assert case.name == "sub-a"
    assert [item.level for item in case.vertebrae] == list(LEVELS)
    assert case.spacing_mm == pytest.approx(STEP_MM)
    for vertebra in case.vertebrae:
        body = bodies[vertebra.level]
        place = AFFINE[:3, :3] @ np.argwhere(body).mean(axis=0) + AFFINE[:3, 3]
        assert case.index(place) == pytest.approx(vertebra.center.numpy(), abs=0.1)
        drawn = case.labels.numpy() == verse_label(vertebra.level)
        assert drawn.sum() == pytest.approx(body.sum(), rel=0.1)
        center = np.argwhere(drawn).mean(axis=0)
        assert center == pytest.approx(vertebra.center.numpy(), abs=1.0)
        assert not vertebra.fractured
    # Bone is where the labels are.
    assert float(case.voxels[case.labels > 0].float().mean()) > 150


def test_grades_come_from_their_own_table(tmp_path: Path) -> None:
    write_case(tmp_path)
    (tmp_path / "fractures.csv").write_text("name,level,grade\nsub-a,L1,2\nsub-b,L2,3\n")
    (case,) = labelled_ct(tmp_path, STEP_MM)
    assert {item.level: item.grade for item in case.vertebrae} == {Level.T12: 0, Level.L1: 2, Level.L2: 0}
    assert [item.level for item in case.vertebrae if item.fractured] == [Level.L1]


def test_a_network_is_trained_and_evaluated_on_such_a_folder(tmp_path: Path) -> None:
    data, out = tmp_path / "verse", tmp_path / "ct-segment"
    for name in ("sub-a", "sub-b"):
        write_case(data, name)
    said = CliRunner().invoke(
        app,
        ["train", "ct-segment", "--data", str(data), "--out", str(out), "--steps", "1", "--device", "cpu"],
    )
    assert said.exit_code == 0, said.output
    assert "2 cases of the folder verse" in (out / "README.md").read_text()
    found = tmp_path / "found.json"
    arguments = ["evaluate", "ct-segment", "--bundle", str(out), "--data", str(data), "--json", str(found)]
    said = CliRunner().invoke(app, arguments)
    assert said.exit_code == 0, said.output
    assert json.loads(found.read_text())["n"] == 2


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: next(folder.rglob("*_ct.nii.gz")).unlink(), "has no sub-a_ct.nii.gz"),
        (
            lambda folder: next(folder.rglob("*.json")).write_text("[]"),
            "does not list centroids as VerSe does",
        ),
        (lambda folder: (folder / "fractures.csv").write_text("case,grade\na,1\n"), "name, level, grade"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, spoil, words: str) -> None:  # type: ignore[no-untyped-def]
    write_case(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ConfigurationError, match=words):
        labelled_ct(tmp_path, STEP_MM)


def test_points_are_not_learned_from_a_folder_that_has_none(tmp_path: Path) -> None:
    data = tmp_path / "verse"
    for name in ("sub-a", "sub-b"):
        write_case(data, name)
    arguments = ["train", "ct-points", "--data", str(data), "--out", str(tmp_path / "b"), "--steps", "1"]
    said = CliRunner().invoke(app, arguments)
    assert said.exit_code == 2
    assert "six points" in said.stderr


def test_centres_of_verse_lie_in_its_bodies(shared_data: Path) -> None:
    folder = shared_data / "ct/verse004"
    labels, affine = read_nifti(folder / "sub-verse004_seg-vert_msk.nii.gz")
    centers = centroids_mm(folder / "sub-verse004_seg-subreg_ctd.json", labels.shape, affine)
    assert list(centers) == [
        Level(name) for name in ("T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")
    ]
    axes = axes_along(dict(enumerate(centers.values())))
    for number, (level, center) in enumerate(centers.items()):
        vertebra = labels == verse_label(level)
        body = body_of_vertebra(vertebra, affine, center, axes[number])
        assert 0.45 < body.sum() / vertebra.sum() < 0.75
        away = affine[:3, :3] @ np.argwhere(body).mean(axis=0) + affine[:3, 3] - center
        assert np.linalg.norm(away) < 2.5


def test_bodies_cut_out_of_real_vertebrae_are_those_that_others_drew(shared_data: Path) -> None:
    folder = shared_data / "ct/tptbox"
    vertebrae, affine = read_nifti(folder / "sub-ct_seg-vert_label-22_msk.nii.gz")
    parts, _ = read_nifti(folder / "sub-ct_seg-subreg_label-22_msk.nii.gz")
    drawn = {label: (vertebrae == label) & np.isin(parts, (49, 50)) for label in (21, 22, 23)}
    centers = {
        label: affine[:3, :3] @ np.argwhere(body).mean(axis=0) + affine[:3, 3]
        for label, body in drawn.items()
    }
    axes = axes_along(centers)
    for label, body in drawn.items():
        assert dice(body_of_vertebra(vertebrae == label, affine, centers[label], axes[label]), body) > 0.98
