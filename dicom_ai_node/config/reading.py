"""From `node.toml`, or a table, to `Settings`: paths anchored, the environment heard."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from dicom_ai_node.config.explanation import explain
from dicom_ai_node.config.section import Section, SectionT
from dicom_ai_node.config.settings import Settings
from dicom_ai_node.errors import ConfigurationError

MODELS_VARIABLE: Final = "DICOM_AI_NODE_MODELS"


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
        lines = [explain(detail) for detail in error.errors()]
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
