"""A bundle is loaded as it was written, or not at all."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dicom_ai_node.errors import ModelError
from dicom_ai_node.inference import bundle as bundles
from dicom_ai_node.inference.bundle import (
    Metadata,
    find_models_dir,
    load_bundle,
    read_metadata,
    save_bundle,
    verify,
)
from dicom_ai_node.networks.unet import UNet
from tests.inference.conftest import MakeBundle

CPU = torch.device("cpu")


def _change(folder: Path, **values: Any) -> None:
    path = folder / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_weights_come_back_to_half_precision(make_bundle: MakeBundle) -> None:
    folder = make_bundle("ct-segment")
    found = load_bundle(folder, CPU)
    torch.manual_seed(4)
    written = UNet(**found.metadata.network.arguments).state_dict()
    for name, weight in found.network.state_dict().items():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, written[name].half().float())
    assert not found.network.training


def test_report_names_version_hash_and_device(make_bundle: MakeBundle) -> None:
    found = load_bundle(make_bundle("ct-segment"), CPU)
    algorithm = found.algorithm()
    assert (algorithm.name, algorithm.version, algorithm.device_uid) == ("ct-segment", "0.0.1", "2.25.1")
    assert algorithm.bundle_sha256 == found.metadata.weights[0].sha256
    assert len(algorithm.bundle_sha256) == 64


def test_changed_weights_are_refused(make_bundle: MakeBundle) -> None:
    folder = make_bundle("ct-segment")
    weights = folder / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.safetensors was changed"):
        load_bundle(folder, CPU)


def test_pickled_weights_are_refused_whatever_their_name(make_bundle: MakeBundle) -> None:
    folder = make_bundle("ct-segment")
    (folder / "weights.pt").write_bytes(pickle.dumps({"no": "thanks"}))
    entry = {"file": "weights.pt", "sha256": bundles._hash_of(folder / "weights.pt")}
    _change(folder, weights=[entry])
    with pytest.raises(ModelError, match=r"not the plain name of a \.safetensors file"):
        load_bundle(folder, CPU)
    (folder / "weights.safetensors").write_bytes((folder / "weights.pt").read_bytes())
    _change(folder, weights=[{**entry, "file": "weights.safetensors"}])
    with pytest.raises(ModelError, match="no safetensors file"):
        load_bundle(folder, CPU)


def test_truncated_weights_are_refused_even_under_their_own_hash(make_bundle: MakeBundle) -> None:
    folder = make_bundle("ct-segment")
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    _change(folder, weights=[{"file": weights.name, "sha256": bundles._hash_of(weights)}])
    with pytest.raises(ModelError, match="no safetensors file"):
        load_bundle(folder, CPU)


def test_weights_outside_the_bundle_are_not_read(make_bundle: MakeBundle, tmp_path: Path) -> None:
    folder = make_bundle("ct-segment")
    outside = tmp_path / "elsewhere.safetensors"
    save_file({"x": torch.zeros(1)}, outside)
    _change(folder, weights=[{"file": "../elsewhere.safetensors", "sha256": bundles._hash_of(outside)}])
    with pytest.raises(ModelError, match="it is not read"):
        verify(folder)


def test_missing_parts_are_named(make_bundle: MakeBundle, tmp_path: Path) -> None:
    folder = make_bundle("ct-segment")
    (folder / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match=r"weights\.safetensors is missing"):
        load_bundle(folder, CPU)
    _change(folder, weights=[])
    with pytest.raises(ModelError, match="names no weights"):
        load_bundle(folder, CPU)
    with pytest.raises(ModelError, match="a model bundle"):
        load_bundle(tmp_path / "nothing", CPU)


def test_metadata_of_another_schema_is_refused(make_bundle: MakeBundle) -> None:
    folder = make_bundle("ct-segment")
    _change(folder, code="import os")
    with pytest.raises(ModelError, match="code: Extra inputs"):
        read_metadata(folder)


@pytest.mark.parametrize(
    "network",
    [
        {"architecture": "UNet", "arguments": {"in_channels": 2, "out_channels": 3, "channels": [8, 8]}},
        {"architecture": "UNet", "arguments": {"in_channels": 2, "out_channels": 3, "depth": 3}},
        {"architecture": "MSCN", "arguments": {"in_channels": 2, "out_channels": 3, "global_stride": 5}},
    ],
)
def test_weights_that_do_not_fit_the_network_are_refused(
    make_bundle: MakeBundle, network: dict[str, Any]
) -> None:
    folder = make_bundle("ct-segment")
    _change(folder, network=network)
    with pytest.raises(ModelError, match="do not fit the network"):
        load_bundle(folder, CPU)


def test_large_weights_are_split_over_files(make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_bundle("ct-segment")
    found = load_bundle(folder, CPU)
    monkeypatch.setattr(bundles, "MAX_FILE_BYTES", 2000)
    written = save_bundle(folder, found.network, found.metadata)
    assert len(written.weights) > 1
    assert not (folder / "weights.safetensors").exists()
    assert all((folder / entry.file).stat().st_size < 16_000_000 for entry in written.weights)
    again = load_bundle(folder, CPU)
    for name, weight in again.network.state_dict().items():
        torch.testing.assert_close(weight, found.network.state_dict()[name])
    assert again.sha256 not in {entry.sha256 for entry in again.metadata.weights}


def test_weights_on_disk_are_half_precision(make_bundle: MakeBundle) -> None:
    tensors = load_file(make_bundle("ct-segment") / "weights.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


def test_metadata_survives_its_json(make_bundle: MakeBundle) -> None:
    metadata = read_metadata(make_bundle("ct-points"))
    assert Metadata.model_validate_json(metadata.model_dump_json()) == metadata


def test_setting_comes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    monkeypatch.setenv("DICOM_AI_NODE_MODELS", str(second))
    assert find_models_dir(first) == first
    assert find_models_dir(None) == second


def test_folder_that_was_named_but_is_not_there_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DICOM_AI_NODE_MODELS", raising=False)
    with pytest.raises(ModelError, match="nowhere"):
        find_models_dir(tmp_path / "nowhere")
    monkeypatch.setenv("DICOM_AI_NODE_MODELS", str(tmp_path / "gone"))
    with pytest.raises(ModelError, match="gone"):
        find_models_dir(None)
