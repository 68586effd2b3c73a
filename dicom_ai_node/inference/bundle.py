"""Model bundles: a folder with `metadata.json`, `weights*.safetensors` and a model card (`README.md`).

Only safetensors are read, never code; weights whose hash is not the one in the metadata are refused. Field
names are those of MONAI bundles where one fits.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dicom_ai_node.errors import ConfigurationError, ModelError
from dicom_ai_node.inference.graphs import CapturedByShape
from dicom_ai_node.inference.preprocessing import (
    AnyPreprocessing,
    CtPatchPreprocessing,
    FilmPreprocessing,
    MetadataPart,
    MriPatchPreprocessing,
    MrPreprocessing,
    Preprocessing,
    SlicePreprocessing,
)
from dicom_ai_node.networks.column_detector import ColumnDetector
from dicom_ai_node.networks.ct_classifier import CtClassifier
from dicom_ai_node.networks.film_classifiers import ResNet18, ViewNetwork
from dicom_ai_node.networks.film_detector import FilmDetector
from dicom_ai_node.networks.half_precision import InHalfTheBits
from dicom_ai_node.networks.mri_classifier import MriClassifier
from dicom_ai_node.networks.mscn import MSCN
from dicom_ai_node.networks.mscn_parts import GlobalNetwork, LocalNetwork
from dicom_ai_node.networks.scn import SCN
from dicom_ai_node.networks.slice_detector import SliceDetector
from dicom_ai_node.networks.unet import UNet
from dicom_ai_node.report import Algorithm

MODELS_VARIABLE: Final = "DICOM_AI_NODE_MODELS"
MAX_FILE_BYTES: Final = 15_000_000
"""Weights are split so that every file stays below this."""

_NETWORKS: Final[Mapping[str, type[nn.Module]]] = {
    "MSCN": MSCN,
    "SCN": SCN,
    "LocalNetwork": LocalNetwork,
    "GlobalNetwork": GlobalNetwork,
    "ColumnDetector": ColumnDetector,
    "UNet": UNet,
    "FilmDetector": FilmDetector,
    "ResNet18": ResNet18,
    "ViewNetwork": ViewNetwork,
    "MriClassifier": MriClassifier,
    "SliceDetector": SliceDetector,
    "CtClassifier": CtClassifier,
}


class NetworkDefinition(MetadataPart):
    """Which architecture of `networks` the weights belong to, and its arguments."""

    architecture: Literal[
        "MSCN",
        "SCN",
        "LocalNetwork",
        "GlobalNetwork",
        "UNet",
        "ColumnDetector",
        "FilmDetector",
        "ResNet18",
        "ViewNetwork",
        "MriClassifier",
        "SliceDetector",
        "CtClassifier",
    ]
    arguments: dict[str, Any]


class WeightsFile(MetadataPart):
    """One file of weights and its SHA-256."""

    file: str
    sha256: str


class Metadata(MetadataPart):
    """`metadata.json`.

    `output_channels` says what each channel of the network's answer means, `taught_shares` how frequent a
    class was in training where the network's probability for it rests on that.
    """

    name: str
    version: str
    task: str
    description: str
    authors: str
    license: str
    intended_use: str
    training_data: str
    trained_on: str
    rebuild: str
    output_channels: tuple[str, ...]
    network: NetworkDefinition
    preprocessing: AnyPreprocessing
    taught_shares: dict[str, float] = Field(default_factory=dict)
    metrics: dict[str, dict[str, float]]
    weights: tuple[WeightsFile, ...]
    device_uid: str

    @property
    def ct(self) -> Preprocessing:
        """Preprocessing of a network of CT.

        Raises:
            ModelError: it is another network.
        """
        if not isinstance(self.preprocessing, Preprocessing):
            raise ModelError(f"{self.name} is no network of CT")
        return self.preprocessing

    @property
    def film(self) -> FilmPreprocessing:
        """Preprocessing of a network of radiographs.

        Raises:
            ModelError: it is another network.
        """
        if not isinstance(self.preprocessing, FilmPreprocessing):
            raise ModelError(f"{self.name} is no network of radiographs")
        return self.preprocessing

    @property
    def mr(self) -> MrPreprocessing:
        """Preprocessing of a network of whole slices of MR, or of planes of one vertebra.

        Raises:
            ModelError: it is another network.
        """
        if not isinstance(self.preprocessing, MrPreprocessing):
            raise ModelError(f"{self.name} is no network of MR slices")
        return self.preprocessing

    @property
    def mri_patch(self) -> MriPatchPreprocessing:
        """Preprocessing of a classifier of vertebrae on MR.

        Raises:
            ModelError: it is another network.
        """
        if not isinstance(self.preprocessing, MriPatchPreprocessing):
            raise ModelError(f"{self.name} is no classifier of vertebrae on MR")
        return self.preprocessing

    @property
    def ct_slice(self) -> SlicePreprocessing:
        """Preprocessing of a detector on sagittal CT slices.

        Raises:
            ModelError: it is another network.
        """
        if not isinstance(self.preprocessing, SlicePreprocessing):
            raise ModelError(f"{self.name} is no detector on CT slices")
        return self.preprocessing

    @property
    def ct_patch(self) -> CtPatchPreprocessing:
        """Preprocessing of a classifier of vertebrae on sagittal CT slices.

        Raises:
            ModelError: it is another network.
        """
        if not isinstance(self.preprocessing, CtPatchPreprocessing):
            raise ModelError(f"{self.name} is no classifier of vertebrae on CT slices")
        return self.preprocessing


@dataclass(frozen=True)
class Bundle:
    """A verified network in evaluation mode on its device."""

    metadata: Metadata
    network: nn.Module
    device: torch.device

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self.metadata.name

    @property
    def sha256(self) -> str:
        """One hash for all files of weights."""
        return combined_hash(self.metadata.weights)

    def algorithm(self) -> Algorithm:
        """How a report names this bundle."""
        meta = self.metadata
        return Algorithm(meta.name, meta.version, self.sha256, meta.device_uid)

    def to(self, device: torch.device) -> Self:
        """The same bundle on another device."""
        return type(self)(self.metadata, self.network.to(device), device)

    def in_half(self) -> Self:
        """The same weights computing in half precision: float16 on a GPU, bfloat16 on a processor."""
        kind = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        return type(self)(self.metadata, InHalfTheBits(self.network, kind), self.device)

    def in_graphs(self) -> Self:
        """The same network with its kernels launched at once (`graphs`); on a processor nothing changes."""
        if self.device.type != "cuda":
            return self
        return type(self)(self.metadata, CapturedByShape(self.network), self.device)


def find_models_dir(setting: Path | None) -> Path:
    """The folder of bundles: the setting, else the environment variable, else the one that was installed.

    Raises:
        ModelError: there is no such folder.
    """
    here = Path(__file__).resolve().parent
    places = [
        setting,
        Path(os.environ[MODELS_VARIABLE]) if os.environ.get(MODELS_VARIABLE) else None,
        here.parent.parent / "models",
        here.parent / "models",
    ]
    for place in places:
        if place is not None:
            if place.is_dir():
                return place
            if place in places[:2]:
                break
    raise ModelError(
        f"no folder of model bundles at {next(p for p in places if p is not None)}; set [models] models_dir "
        f"or {MODELS_VARIABLE} to the folder that holds ct-localise, ct-segment and ct-points"
    )


def read_metadata(folder: Path) -> Metadata:
    """The checked `metadata.json` of a bundle.

    Raises:
        ModelError: it is missing or does not follow the schema.
    """
    path = folder / "metadata.json"
    try:
        return Metadata.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); is {folder} a model bundle?") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{path}: {place}: {first['msg']}; the bundle does not fit this version") from error


def verify(folder: Path) -> Metadata:
    """The metadata of a bundle whose weights all have the hash that it names.

    Raises:
        ModelError: a file is missing or was changed.
    """
    metadata = read_metadata(folder)
    if not metadata.weights:
        raise ModelError(f"{folder / 'metadata.json'} names no weights; the bundle is incomplete")
    for entry in metadata.weights:
        path = folder / entry.file
        if Path(entry.file).name != entry.file or path.suffix != ".safetensors":
            raise ModelError(
                f"{folder}: {entry.file!r} is not the plain name of a .safetensors file; it is not read"
            )
        if not path.is_file():
            raise ModelError(f"{path} is missing; copy the whole bundle again")
        if _hash_of(path) != entry.sha256:
            raise ModelError(
                f"{path} was changed: its SHA-256 is not the one in metadata.json; copy the bundle again"
            )
    return metadata


def load_bundle(folder: Path, device: torch.device) -> Bundle:
    """The bundle's network, verified, in evaluation mode, float32 on `device`.

    Raises:
        ModelError: the bundle is missing, was changed, or does not fit this version.
    """
    metadata = verify(folder)
    tensors: dict[str, Tensor] = {}
    for entry in metadata.weights:
        try:
            tensors |= load_file(folder / entry.file)
        except SafetensorError as error:
            raise ModelError(f"{folder / entry.file} is no safetensors file: {error}") from error
    try:
        network = _NETWORKS[metadata.network.architecture](**metadata.network.arguments)
        network.load_state_dict(
            {n: tensor.float() if tensor.is_floating_point() else tensor for n, tensor in tensors.items()}
        )
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"{folder}: the weights do not fit the network that metadata.json describes: {reason}"
        ) from error
    return Bundle(metadata, network.to(device).eval(), device)


def bundle_of(task: str, folder: Path) -> Bundle:
    """A task's bundle on the CPU, to be measured.

    Raises:
        ConfigurationError: the bundle is of another task.
        ModelError: as `load_bundle` does.
    """
    loaded = load_bundle(folder, torch.device("cpu"))
    if loaded.metadata.task != task:
        raise ConfigurationError(f"{folder} is a bundle of {loaded.metadata.task}, not of {task}")
    return loaded


def save_bundle(folder: Path, network: nn.Module, metadata: Metadata) -> Metadata:
    """Write the weights in half precision and `metadata.json`; the model card is the author's.

    Buffers stay as they are: a running variance of BatchNorm may lie outside what half precision can hold.

    Returns:
        The metadata with the names and hashes of the files that were written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("weights*.safetensors"):
        old.unlink()
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    learned = {name for name, _ in network.named_parameters()}
    for name, tensor in network.state_dict().items():
        half = tensor.detach().cpu().contiguous()
        half = half.half() if name in learned else half
        if size + half.nbytes > MAX_FILE_BYTES and parts[-1]:
            parts.append({})
            size = 0
        parts[-1][name] = half
        size += half.nbytes
    files = []
    for number, part in enumerate(parts, start=1):
        path = folder / ("weights.safetensors" if len(parts) == 1 else f"weights-{number}.safetensors")
        save_file(part, path)
        path.chmod(0o644)  # safetensors writes for its owner alone; a node may run as another user
        files.append(WeightsFile(file=path.name, sha256=_hash_of(path)))
    written = metadata.model_copy(update={"weights": tuple(files)})
    text = json.dumps(written.model_dump(mode="json"), indent=2)
    (folder / "metadata.json").write_text(text + "\n")
    return written


def combined_hash(weights: tuple[WeightsFile, ...]) -> str:
    """One SHA-256 over the hashes of all files in order; that of the file itself where there is one."""
    if len(weights) == 1:
        return weights[0].sha256
    return hashlib.sha256("".join(entry.sha256 for entry in weights).encode()).hexdigest()


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
