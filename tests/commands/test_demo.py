"""`dicom-ai-node demo`: what it says of a study that has come back."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from dicom_ai_node.anatomy import Level
from dicom_ai_node.commands import demo
from dicom_ai_node.report import Source, SpineReport, Vertebra


def test_every_lateral_film_of_a_series_is_shown(tmp_path: Path) -> None:
    results = tmp_path / "node" / "results" / "job" / "results"
    results.mkdir(parents=True)
    source = Source("1.2", ("1.3",), "DX", None)
    for before, level in (("", Level.L1), ("film-2-", Level.T12)):
        report = SpineReport("analysed", source, vertebrae=(Vertebra(level, 0.9),))
        (results / f"{before}report.json").write_text(report.to_json(), "utf-8")
        (results / f"{before}overlay.png").touch()
    console = Console(file=io.StringIO(), width=200)
    demo._show(tmp_path, {"job": "job", "state": "delivered", "reason": ""}, console)
    said = console.file.getvalue()
    assert ["1 vertebrae, L1; no fracture" in said, "1 vertebrae, T12; no fracture" in said] == [True, True]
    assert [str(results / f"{before}overlay.png") in said for before in ("", "film-2-")] == [True, True]
