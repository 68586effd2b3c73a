"""`[models] precision`: half precision where a GPU computes, and nowhere else."""

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
def test_half_precision_is_for_gpus(
    monkeypatch: pytest.MonkeyPatch, precision: str, device: str, half: bool
) -> None:
    def told(*_: Any, half: bool) -> None:
        raise _Told(half)

    monkeypatch.setattr(module, "choose_device", lambda _choice: device)
    monkeypatch.setattr(module, "find_models_dir", lambda _setting: None)
    monkeypatch.setattr(module, "load_volume", lambda *_, **__: None)
    monkeypatch.setattr(module, "_ct_volume", told)
    settings = settings_from({"models": {"precision": precision}})
    with pytest.raises(_Told) as asked:
        module.analyse("ct-volume", [], settings)
    assert asked.value.args == (half,)
