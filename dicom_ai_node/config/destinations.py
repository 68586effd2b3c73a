"""Where results go, in which form, and what is done when that fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from dicom_ai_node.config.archives import DicomwebServer
from dicom_ai_node.config.section import Section
from dicom_ai_node.config.values import AS_TUPLE, AETitle, Host, PeerPort, Seconds
from dicom_ai_node.presets import PRESETS, BoxShape, Compression, PresetName, ResultKind, SegmentationForm


class Delivery(Section):
    """What every kind of `[[destinations]]` says: which results it gets, in which form, and retries.

    `preset` fills in what is not set; what it leaves open is None here and stands in `[results]`.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    preset: PresetName = "standard"
    results: Annotated[tuple[ResultKind, ...], AS_TUPLE, Field(min_length=1)] = PRESETS["standard"].results
    segmentation: SegmentationForm | None = None
    compression: Compression | None = None
    box: BoxShape | None = None
    timeout_seconds: Seconds = 30.0
    retry_first_seconds: Seconds = 5.0
    retry_growth: Annotated[float, Field(ge=1)] = 2.0
    retry_max_seconds: Seconds = 900.0
    retry_attempts: Annotated[int, Field(ge=1)] = 40

    @model_validator(mode="before")
    @classmethod
    def _as_preset(cls, given: object) -> object:
        if not isinstance(given, Mapping) or given.get("preset") not in PRESETS:
            return given
        preset = PRESETS[given["preset"]]
        return {key: value for key, value in vars(preset).items() if value is not None} | dict(given)


class Destination(Delivery):
    """`[[destinations]]`: one archive that gets results by C-STORE."""

    kind: Literal["dimse"] = "dimse"
    ae_title: AETitle
    host: Host
    port: PeerPort
    calling_ae_title: AETitle | None = None


class DicomwebDestination(Delivery, DicomwebServer):
    """`[[destinations]]` with `kind = "dicomweb"`: one archive that gets results by STOW-RS."""

    kind: Literal["dicomweb"]


def _kind(value: object) -> str:
    kind = value.get("kind", "dimse") if isinstance(value, Mapping) else getattr(value, "kind", "dimse")
    return kind if isinstance(kind, str) else ""


AnyDestination = Annotated[
    Annotated[Destination, Tag("dimse")] | Annotated[DicomwebDestination, Tag("dicomweb")],
    Discriminator(_kind),
]
