"""`node.toml` -> typed settings: every section, every default, and errors that name the key.

`deploy/node.toml` explains every setting and holds the same defaults. Settings are frozen; relative paths
are relative to the folder of the file that names them. One environment variable outranks the file:
`DICOM_AI_NODE_MODELS` replaces `[models] models_dir`.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.presets import PRESETS, BoxShape, Compression, PresetName, ResultKind, SegmentationForm

MODELS_VARIABLE: Final = "DICOM_AI_NODE_MODELS"

Orientation = Literal["axial", "sagittal", "coronal", "oblique"]


def _ae_title(value: str) -> str:
    # PS3.5 table 6.2-1: 16 characters at most of the default repertoire, no backslash, not only spaces
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", value) or not value.strip():
        raise ValueError("an AE title has 1 to 16 ASCII characters, no backslash")
    return value.strip()


def _uid(value: str) -> str:
    if len(value) > 64 or not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", value):
        raise ValueError("a UID has digits and dots, 64 characters at most")
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return value


def _path(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str) and value else value


def _tuple(value: object) -> object:
    # TOML has arrays only; strict pydantic wants the tuple that keeps the settings immutable
    return tuple(value) if isinstance(value, list) else value


def _token(value: str) -> str:
    # RFC 6750 section 2.1
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]{16,}=*", value):
        raise ValueError("a token has 16 or more letters, digits and signs of -._~+/")
    return value


def _service_root(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("an address like https://archive.example/dicom-web, without ? and #")
    if parts.username is not None or parts.password is not None:
        raise ValueError("no user and password in the address; there are settings for them")
    return value.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether an address, or a name that means one, is this machine's own and no other machine sees it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


AETitle = Annotated[str, AfterValidator(_ae_title)]
Uid = Annotated[str, AfterValidator(_uid)]
Token = Annotated[str, AfterValidator(_token)]
Pattern = Annotated[str, AfterValidator(_pattern)]
FilePath = Annotated[Path, BeforeValidator(_path)]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Millimetres = Annotated[float, Field(gt=0)]
Loss = Annotated[float, Field(gt=0, lt=1)]


def _check_compression(segmentation: SegmentationForm, compression: Compression) -> None:
    if (segmentation, compression) == ("binary", "rle"):
        # PS3.5 table 8.2.2-1
        raise ValueError(
            'compression = "rle" cannot hold a binary segmentation (one bit per pixel); '
            'set segmentation = "labelmap", or compression = "deflated"'
        )


class Section(BaseModel):
    """One table of `node.toml`: unknown keys are refused, values keep their TOML type, all is frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


SectionT = TypeVar("SectionT", bound=Section)


class NodeSettings(Section):
    """`[node]`: the node's own face on the network."""

    ae_title: AETitle = "DICOM_AI"
    host: Annotated[str, Field(min_length=1)] = "0.0.0.0"  # noqa: S104 - a PACS calls from another machine
    port: Port = 11112
    require_called_ae_title: bool = False
    max_associations: Annotated[int, Field(ge=1, le=1000)] = 32
    max_pdu_bytes: Annotated[int, Field(ge=4096, le=16_777_216)] = 262_144
    max_instance_mb: Annotated[int, Field(ge=1, le=4096)] = 2048
    association_timeout_seconds: Seconds = 30.0
    message_timeout_seconds: Seconds = 60.0
    network_timeout_seconds: Seconds = 120.0
    own_results: Literal["accept", "refuse"] = "accept"
    non_images: Literal["accept", "refuse"] = "accept"
    further_sop_classes: Annotated[tuple[Uid, ...], BeforeValidator(_tuple)] = ()


class Sender(Section):
    """`[[senders]]`: one peer that may open an association; no entry at all means anyone may."""

    ae_title: AETitle
    host: str | None = None


class CtRoute(Section):
    """`[routes.ct]`: which CT series are analysed, and when a series counts as complete."""

    enabled: bool = True
    quiet_seconds: Annotated[float, Field(ge=0)] = 30.0
    trust_header_counts: bool = True
    min_slices: Annotated[int, Field(ge=1)] = 12
    min_coverage_mm: Millimetres = 80.0
    max_spacing_mm: Millimetres = 6.0
    max_gap_mm: Annotated[float, Field(ge=0)] = 0.0
    max_pixel_spacing_mm: Millimetres = 2.0
    sagittal: bool = True
    diseases: bool = False
    orientations: Annotated[tuple[Orientation, ...], BeforeValidator(_tuple)] = (
        "axial",
        "sagittal",
        "coronal",
    )
    refused_image_types: Annotated[tuple[str, ...], BeforeValidator(_tuple)] = (
        "LOCALIZER",
        "DERIVED",
        "SECONDARY",
        "SCREEN SAVE",
        "PROJECTION IMAGE",
        "MIP",
        "MAX_IP",
        "MIN_IP",
        "VOLUME_RENDER",
        "SURFACE_RENDER",
    )
    refused_descriptions: Annotated[tuple[Pattern, ...], BeforeValidator(_tuple)] = (
        "scout",
        "topogram",
        "locali[sz]er",
        "surview",
        "smart ?prep",
        "bolus",
        "pre-?monitoring",
        "dose (report|info)",
    )


class RadiographRoute(Section):
    """`[routes.radiograph]`: which projection radiographs are looked at; the image itself tells the view."""

    enabled: bool = True
    quiet_seconds: Annotated[float, Field(ge=0)] = 20.0
    secondary_captures: bool = False
    refused_body_parts: Annotated[tuple[Pattern, ...], BeforeValidator(_tuple)] = (
        "hand",
        "finger",
        "thumb",
        "wrist",
        "forearm",
        "elbow",
        "humerus",
        "clavicle",
        "shoulder",
        "foot",
        "toe",
        "heel",
        "calcaneus",
        "ankle",
        "knee",
        "patella",
        "femur",
        "^(arm|leg)$",
        "extremity",
        "skull",
        "head",
        "jaw",
        "mandible",
        "sinus",
        "nose",
        "orbit",
        "breast",
        "tooth|teeth|dental",
    )
    refused_descriptions: Annotated[tuple[Pattern, ...], BeforeValidator(_tuple)] = (
        "dose (report|info)",
        "screen ?shot",
    )


class MriRoute(Section):
    """`[routes.mri]`: which MR series are analysed; what a series is comes from its header and its image.

    The series of one study are analysed together. A T2 without T1, or a T1 without T2, is analysed when no MR
    of its study has come for `partner_wait_seconds`, and again when the partner has come; 0 never waits.
    """

    enabled: bool = True
    quiet_seconds: Annotated[float, Field(ge=0)] = 30.0
    partner_wait_seconds: Annotated[float, Field(ge=0)] = 600.0
    min_slices: Annotated[int, Field(ge=2)] = 5
    min_coverage_mm: Millimetres = 100.0
    max_spacing_mm: Millimetres = 8.0
    max_pixel_spacing_mm: Millimetres = 2.0
    cervical: bool = False
    refused_body_parts: Annotated[tuple[Pattern, ...], BeforeValidator(_tuple)] = (
        "brain",
        "head",
        "skull",
        "orbit",
        "pituitary",
        "face",
        "sinus",
        "jaw",
        "tmj",
        "breast",
        "heart|cardiac",
        "prostate",
        "shoulder",
        "humerus",
        "elbow",
        "wrist",
        "hand",
        "finger",
        "femur",
        "knee",
        "ankle",
        "foot",
        "toe",
        "extremity",
    )
    refused_descriptions: Annotated[tuple[Pattern, ...], BeforeValidator(_tuple)] = (
        "brain",
        "(?<![a-z])knee",
        "(?<![a-z])hips?(?![a-z])",
        "shoulder",
        "screen ?save",
        "report",
    )


class OtherRoute(Section):
    """`[routes.other]`: series that no pipeline takes; they are recorded as not applicable."""

    quiet_seconds: Annotated[float, Field(ge=0)] = 30.0


class Routes(Section):
    """`[routes]`: one table per kind of series."""

    ct: CtRoute = CtRoute()
    radiograph: RadiographRoute = RadiographRoute()
    mri: MriRoute = MriRoute()
    other: OtherRoute = OtherRoute()


class Delivery(Section):
    """What every kind of `[[destinations]]` says: which results it gets, in which form, and retries.

    `preset` fills in what is not set; what it leaves open is None here and stands in `[results]`.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    preset: PresetName = "standard"
    results: Annotated[tuple[ResultKind, ...], BeforeValidator(_tuple), Field(min_length=1)] = PRESETS[
        "standard"
    ].results
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
    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)]
    calling_ae_title: AETitle | None = None


class DicomwebServer(Section):
    """A DICOMweb service root, and how the node shows who it is: with a token, or with user and password."""

    url: Annotated[str, AfterValidator(_service_root)]
    token_file: FilePath | None = None
    user: str | None = None
    password_file: FilePath | None = None
    ca_file: FilePath | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file go together; add the other one")
        if self.user is not None and self.token_file is not None:
            raise ValueError("token_file, or user and password_file: keep one way to log in")
        return self


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


class HttpSettings(Section):
    """`[http]`: the HTTP interface, for other programs and for archives that speak DICOMweb."""

    enabled: bool = False
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Port = 8080
    token: Token | None = None
    token_file: FilePath | None = None
    certificate: FilePath | None = None
    private_key: FilePath | None = None
    paths: Annotated[tuple[FilePath, ...], BeforeValidator(_tuple)] = ()
    dicomweb: Annotated[tuple[DicomwebServer, ...], BeforeValidator(_tuple)] = ()

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key go together; add the other one")
        if self.enabled and self.certificate is None and not is_loopback(self.host):
            raise ValueError(
                f"host = {self.host!r} is seen from other machines: add certificate and private_key (TLS), "
                'or keep host = "127.0.0.1" and let a reverse proxy do it'
            )
        return self


class QuerySettings(Section):
    """`[query]`: an archive that is asked how many instances a series has (C-FIND)."""

    ae_title: AETitle
    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)]
    calling_ae_title: AETitle | None = None
    timeout_seconds: Seconds = 5.0


class PriorSettings(Section):
    """`[priors]`: an archive that is asked for this node's earlier reports of the patient (C-FIND, C-GET)."""

    ae_title: AETitle
    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)]
    calling_ae_title: AETitle | None = None
    timeout_seconds: Seconds = 10.0
    studies: Annotated[int, Field(ge=1, le=100)] = 5


class StorageSettings(Section):
    """`[storage]`: where the node keeps what it received and made, and for how long."""

    folder: FilePath = Path("dicom-ai-node-data")
    minimum_free_mb: Annotated[int, Field(ge=0)] = 2048
    keep_days: Annotated[float, Field(ge=0)] = 7.0

    @property
    def spool_folder(self) -> Path:
        """The journal: instances as received."""
        return self.folder / "spool"

    @property
    def results_folder(self) -> Path:
        """Encoded results, one folder per series and generation."""
        return self.folder / "results"

    @property
    def database_path(self) -> Path:
        """The workflow's SQLite file."""
        return self.folder / "workflow.sqlite"


class WorkflowSettings(Section):
    """`[workflow]`: how many studies are analysed at once, and where the record of jobs is kept."""

    database_url: str | None = None
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    analysis_timeout_seconds: Seconds = 1800.0
    analysis_attempts: Annotated[int, Field(ge=1)] = 4
    analysis_retry_seconds: Seconds = 15.0


class SecuritySettings(Section):
    """`[security]`: what may be seen of patients outside the images."""

    log_identifiers: bool = False


class ModelSettings(Section):
    """`[models]`: which weights run where."""

    models_dir: FilePath | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0


class ResultSettings(Section):
    """`[results]`: the language of what a human reads in a report, the height losses at which a Genant grade
    begins (Genant 1993), the probabilities from which on a vertebra on MR is called malignant (P4) and a
    disease on sagittal CT slices is reported (P2), and the form that results have where a destination has
    no wish of its own.
    """

    language: Literal["en", "de", "fr", "es"] = "en"
    genant_mild: Loss = 0.20
    genant_moderate: Loss = 0.25
    genant_severe: Loss = 0.40
    malignant_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    disease_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    segmentation: SegmentationForm = "binary"
    compression: Compression = "none"
    box: BoxShape = "closed"

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if not self.genant_mild < self.genant_moderate < self.genant_severe:
            raise ValueError("genant_mild, genant_moderate and genant_severe must rise in this order")
        return self

    @model_validator(mode="after")
    def _holdable(self) -> Self:
        _check_compression(self.segmentation, self.compression)
        return self


class Settings(Section):
    """All of `node.toml`; `Settings()` is the node without a file."""

    node: NodeSettings = NodeSettings()
    senders: Annotated[tuple[Sender, ...], BeforeValidator(_tuple)] = ()
    routes: Routes = Routes()
    destinations: Annotated[tuple[AnyDestination, ...], BeforeValidator(_tuple)] = ()
    query: QuerySettings | None = None
    http: HttpSettings = HttpSettings()
    priors: PriorSettings | None = None
    storage: StorageSettings = StorageSettings()
    workflow: WorkflowSettings = WorkflowSettings()
    security: SecuritySettings = SecuritySettings()
    models: ModelSettings = ModelSettings()
    results: ResultSettings = ResultSettings()

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [destination.name for destination in self.destinations]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"destinations have the same name: {', '.join(doubled)}; give each its own")
        return self

    @model_validator(mode="after")
    def _holdable_everywhere(self) -> Self:
        for item in self.destinations:
            try:
                _check_compression(
                    item.segmentation or self.results.segmentation,
                    item.compression or self.results.compression,
                )
            except ValueError as error:
                raise ValueError(f"destination {item.name}: {error}") from error
        return self


def load_settings(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of one `node.toml`, or the defaults where there is no file.

    Args:
        path: the file; None for the defaults.
        environment: replaces `os.environ` (for tests).

    Raises:
        ConfigurationError: the file cannot be read, is no TOML, or holds a wrong value or unknown key; the
            message names every such key, what was given and what is allowed.
    """
    table = {} if path is None else _read(path)
    settings = settings_from(table, "the default settings" if path is None else str(path))
    if path is not None:
        settings = _anchored(settings, path.resolve().parent)
    models_dir = (os.environ if environment is None else environment).get(MODELS_VARIABLE)
    if models_dir:
        models = settings.models.model_copy(update={"models_dir": Path(models_dir).expanduser()})
        settings = settings.model_copy(update={"models": models})
    return settings


def settings_from(table: Mapping[str, Any], name: str = "node.toml") -> Settings:
    """The settings that a parsed TOML document holds; `name` is what an error calls the document.

    Raises:
        ConfigurationError: see `load_settings`.
    """
    try:
        return Settings.model_validate(dict(table))
    except ValidationError as error:
        lines = [_explain(detail) for detail in error.errors()]
        raise ConfigurationError(f"{name}: " + "; ".join(lines)) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read ({error.strerror}); name a readable file with --config"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: is no TOML: {error}") from error


def _anchored(settings: Settings, folder: Path) -> Settings:
    storage = settings.storage.model_copy(update={"folder": folder / settings.storage.folder})
    update: dict[str, Section | tuple[Section, ...]] = {"storage": storage}
    if settings.models.models_dir is not None:
        models_dir = folder / settings.models.models_dir
        update["models"] = settings.models.model_copy(update={"models_dir": models_dir})
    update["destinations"] = tuple(_anchored_files(item, folder) for item in settings.destinations)
    http = _anchored_files(settings.http, folder)
    update["http"] = http.model_copy(
        update={
            "paths": tuple(folder / path for path in http.paths),
            "dicomweb": tuple(_anchored_files(item, folder) for item in http.dicomweb),
        }
    )
    return settings.model_copy(update=update)


def _anchored_files(section: SectionT, folder: Path) -> SectionT:
    files = {
        name: folder / path
        for name in ("token_file", "password_file", "ca_file", "certificate", "private_key")
        if (path := getattr(section, name, None)) is not None
    }
    return section.model_copy(update=files)


def _explain(detail: ErrorDetails) -> str:
    place = list(detail["loc"])
    # The kind of a destination is no part of its place in the file.
    tag = place.pop(2) if len(place) > 2 and place[0] == "destinations" else None
    text = re.sub(r"^Value error, ", "", detail["msg"])
    kind = detail["type"]
    if kind == "value_error" and isinstance(detail["input"], Mapping):
        return f"{_section(place)} {text}".lstrip()
    if len(place) > 2 and isinstance(place[-1], int):
        place.pop()  # one value of an array; the message shows which
    if kind == "union_tag_invalid":
        return f"{_section(place)} kind: 'dimse' or 'dicomweb'"
    if place[0] in _ARRAYS and len(place) < 3:
        return f"{place[0]} are sections of their own: write [[{place[0]}]] and its keys on the lines below"
    if kind == "model_type":
        return f"{place[-1]} = {detail['input']!r}: a section, write [{'.'.join(map(str, place))}]"
    section, key = _section(place[:-1]), place[-1]
    if kind == "extra_forbidden":
        table = _TABLES[tuple(str(part) for part in place[:-1] if isinstance(part, str))]
        known = list((DicomwebDestination if tag == "dicomweb" else table).model_fields)
        near = difflib.get_close_matches(str(key), known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        place_name = f"in {section}" if section else "as a section"
        return f"{key} is not known {place_name}; {hint}known: {', '.join(known)}"
    if kind == "missing":
        return f"{section} {key} is missing; add it"
    # Nor is a password shown that somebody wrote into an address.
    given = "..." if key in _SECRETS or "@" in str(detail["input"]) else repr(detail["input"])
    return f"{section} {key} = {given}: {text}"


def _section(place: Sequence[int | str]) -> str:
    """`("routes", "ct")` -> `[routes.ct]`; `("destinations", 1)` -> `[[destinations]] number 2`."""
    if not place:
        return ""
    if place[0] in _ARRAYS and len(place) > 1:
        return f"[[{place[0]}]] number {int(place[1]) + 1}"
    if isinstance(place[-1], int):
        return f"[[{'.'.join(map(str, place[:-1]))}]] number {place[-1] + 1}"
    return f"[{'.'.join(map(str, place))}]"


_SECRETS: Final = frozenset(("token", "password"))
_ARRAYS: Final = frozenset(("senders", "destinations"))
_TABLES: Final[Mapping[tuple[str, ...], type[Section]]] = {
    (): Settings,
    ("node",): NodeSettings,
    ("senders",): Sender,
    ("routes",): Routes,
    ("routes", "ct"): CtRoute,
    ("routes", "radiograph"): RadiographRoute,
    ("routes", "mri"): MriRoute,
    ("routes", "other"): OtherRoute,
    ("destinations",): Destination,
    ("http",): HttpSettings,
    ("http", "dicomweb"): DicomwebServer,
    ("query",): QuerySettings,
    ("priors",): PriorSettings,
    ("storage",): StorageSettings,
    ("workflow",): WorkflowSettings,
    ("security",): SecuritySettings,
    ("models",): ModelSettings,
    ("results",): ResultSettings,
}
