"""`[models] precision`, `cuda_graphs`: half precision where a GPU computes, graphs where they are wanted."""

from __future__ import annotations

from typing import Any

import pytest

from dicom_ai_node.config import settings_from
from dicom_ai_node.pipelines import analyse as module


class _Told(Exception):
    """Carries what the pipeline was asked for."""


@pytest.mark.parametrize(
    ("precision", "device", "half"),
    [("half", "cuda", True), ("half", "cpu", False), ("float32", "cuda", False)],
)
@pytest.mark.parametrize("pipeline", ["ct-volume", "radiograph"])
def test_half_precision_is_for_gpus(
    monkeypatch: pytest.MonkeyPatch, precision: str, device: str, half: bool, pipeline: str
) -> None:
    assert _asked(monkeypatch, pipeline, device, {"precision": precision}) == (half, True)


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("pipeline", ["ct-volume", "radiograph"])
def test_graphs_are_used_unless_they_are_unwanted(
    monkeypatch: pytest.MonkeyPatch, wanted: bool, pipeline: str
) -> None:
    assert _asked(monkeypatch, pipeline, "cuda", {"cuda_graphs": wanted}) == (False, wanted)


def _asked(
    monkeypatch: pytest.MonkeyPatch, pipeline: str, device: str, models: dict[str, Any]
) -> tuple[bool, bool]:
    """Whether a pipeline is asked for in half precision, and in graphs."""

    def told(*_: Any, half: bool, graphs: bool) -> None:
        raise _Told(half, graphs)

    monkeypatch.setattr(module, "choose_device", lambda _choice: device)
    monkeypatch.setattr(module, "find_models_dir", lambda _setting: None)
    monkeypatch.setattr(module, "load_volume", lambda *_, **__: None)
    monkeypatch.setattr(module, "_ct_volume" if pipeline == "ct-volume" else "_radiograph", told)
    with pytest.raises(_Told) as asked:
        module.analyse(pipeline, [], settings_from({"models": models}))
    half, graphs = asked.value.args
    return half, graphs
