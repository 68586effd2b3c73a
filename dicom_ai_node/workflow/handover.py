"""What the steps of one job hand to each other: files in the job's folder, each there whole or not at all.

```
<results folder>/<job>/
  input.json      the instances that this generation is made of
  analysis/       report.json, labels.npz          what the pipeline said
                  prior.json                       the earlier report that it is compared with
                  film-2/                          the same of the second film of a series, if there is one
  results/        objects.json, sr.dcm, seg.dcm    what goes to the archives
                  film-2-sr.dcm, film-2-seg.dcm    of the second film
```
A folder is filled under another name, brought to disk, then renamed; so a step that was cut short leaves
nothing that looks finished, and a step that is repeated finds what is there and uses it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from dicom_ai_node.prior import PriorReport
from dicom_ai_node.report import Analysis, LabelMap, SpineReport

OBJECTS_FILE: Final = "objects.json"


@dataclass(frozen=True)
class JobFolder:
    """The folder of one job."""

    path: Path

    @property
    def results(self) -> Path:
        """Encoded results, complete if it exists."""
        return self.path / "results"

    @property
    def analysis(self) -> Path:
        """The pipeline's answer, complete if it exists."""
        return self.path / "analysis"

    def analysis_of(self, film: int) -> Path:
        """What was said of one film of a series of several, counted from 1."""
        return _place(self.analysis, film)

    def write_input(self, paths: Sequence[Path]) -> None:
        """Note which instances this job is about."""
        self.path.mkdir(parents=True, exist_ok=True)
        part = self.path / "input.json.part"
        part.write_text(json.dumps([str(path) for path in paths], indent=0), encoding="utf-8")
        _to_disk(part)
        part.rename(self.path / "input.json")
        _to_disk(self.path)
        _to_disk(self.path.parent)

    def read_input(self) -> list[Path]:
        """The instances that this job is about."""
        return [Path(name) for name in json.loads((self.path / "input.json").read_text(encoding="utf-8"))]

    def write_analysis(self, analysis: Analysis) -> None:
        """Keep the pipeline's answer."""
        with whole_folder(self.analysis) as folder:
            for number, one in enumerate(analysis.each, start=1):
                place = _place(folder, number)
                place.mkdir(exist_ok=True)
                _write_one(one, place)

    def read_analysis(self) -> Analysis:
        """The pipeline's answer."""
        found = [_read_one(self.analysis)]
        while (place := self.analysis_of(len(found) + 1)).exists():
            found.append(_read_one(place))
        return Analysis.joined(found)

    def read_report(self) -> SpineReport:
        """The report alone; of several films that of the first."""
        return _read_report(self.analysis)

    def write_objects(self, folder: Path, objects: Sequence[dict[str, Any]]) -> None:
        """Note in `folder` (to become `results`) which of its files are result objects."""
        (folder / OBJECTS_FILE).write_text(json.dumps(list(objects), indent=1), encoding="utf-8")

    def read_objects(self) -> list[dict[str, Any]]:
        """The result objects: kind, file, sop_class_uid, sop_instance_uid."""
        objects: list[dict[str, Any]] = json.loads((self.results / OBJECTS_FILE).read_text(encoding="utf-8"))
        return objects

    def remove(self) -> None:
        """Remove all that the job left on disk."""
        shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that becomes `path` when the block ends, with every file on disk before."""
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    for file in sorted(part.rglob("*")):
        _to_disk(file)
    _to_disk(part)
    if path.exists():
        shutil.rmtree(path)
    part.rename(path)
    _to_disk(path.parent)


def in_film(name: str, film: int) -> str:
    """`film-2-sr.dcm`: results of all films lie side by side, and a destination is told their names."""
    return name if film == 1 else f"film-{film}-{name}"


def _place(analysis: Path, film: int) -> Path:
    return analysis if film == 1 else analysis / f"film-{film}"


def _write_one(analysis: Analysis, folder: Path) -> None:
    (folder / "report.json").write_text(analysis.report.to_json(), encoding="utf-8")
    if analysis.label_map is not None:
        arrays: dict[str, np.ndarray[Any, Any]] = {"labels": analysis.label_map.labels}
        if analysis.label_map.affine is not None:
            arrays["affine"] = analysis.label_map.affine
        np.savez_compressed(folder / "labels.npz", allow_pickle=False, **arrays)
    if analysis.prior is not None:
        (folder / "prior.json").write_text(json.dumps(analysis.prior.to_dict()), encoding="utf-8")


def _read_one(folder: Path) -> Analysis:
    report = _read_report(folder)
    earlier = folder / "prior.json"
    prior = None
    if earlier.exists():
        prior = PriorReport.from_dict(json.loads(earlier.read_text(encoding="utf-8")))
    labels = folder / "labels.npz"
    if not labels.exists():
        return Analysis(report, prior=prior)
    with np.load(labels, allow_pickle=False) as arrays:
        affine = arrays.get("affine")
        return Analysis(report, LabelMap(arrays["labels"], affine), prior)


def _read_report(folder: Path) -> SpineReport:
    return SpineReport.from_json((folder / "report.json").read_text(encoding="utf-8"))


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
