"""Settings: the example file is the truth about the defaults, and a wrong key is named with the way out."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dicom_ai_node.config import (
    MODELS_VARIABLE,
    Destination,
    PriorSettings,
    QuerySettings,
    Section,
    Sender,
    Settings,
    load_settings,
    settings_from,
)
from dicom_ai_node.errors import ConfigurationError

EXAMPLE = Path(__file__).resolve().parent.parent / "deploy" / "node.toml"


def uncommented_example() -> dict[str, Any]:
    """The example with every commented-out section and setting switched on."""
    text = re.sub(r"(?m)^# (?=\[|[a-z_]+ = |# )", "", EXAMPLE.read_text("utf-8"))
    return tomllib.loads(text)


def test_example_file_holds_exactly_the_defaults() -> None:
    assert settings_from(tomllib.loads(EXAMPLE.read_text("utf-8"))) == Settings()


def test_example_file_explains_every_setting() -> None:
    def keys(section: type[Section], table: dict[str, Any]) -> None:
        for name, field in section.model_fields.items():
            assert name in table, f"{section.__name__} {name} is not in {EXAMPLE.name}"
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                keys(field.annotation, table[name])

    table = uncommented_example()
    keys(Settings, table)
    keys(Sender, table["senders"][0])
    keys(Destination, table["destinations"][0])
    keys(QuerySettings, table["query"])
    keys(PriorSettings, table["priors"])


def test_commented_examples_are_valid_and_show_the_defaults() -> None:
    settings = settings_from(uncommented_example())
    assert settings.senders == (Sender(ae_title="PACS", host="192.0.2.10"),)
    assert settings.query == QuerySettings(
        ae_title="PACS", host="192.0.2.10", port=104, calling_ae_title="DICOM_AI"
    )
    assert settings.priors == PriorSettings(
        ae_title="PACS", host="192.0.2.10", port=104, calling_ae_title="DICOM_AI"
    )
    shown = settings.destinations[0]
    assert shown == Destination(
        name="archive",
        ae_title="ARCHIVE",
        host="192.0.2.20",
        port=104,
        calling_ae_title="DICOM_AI",
        segmentation="binary",
        compression="none",
        box="closed",
    )


def test_settings_reach_the_analysis_process_unchanged() -> None:
    settings = settings_from(uncommented_example())
    assert settings_from(json.loads(settings.model_dump_json())) == settings


def test_without_a_file_the_defaults_hold() -> None:
    assert load_settings(None, environment={}) == Settings()


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('[storage]\nfolder = "data"\n[models]\nmodels_dir = "weights"\n')
    settings = load_settings(file, environment={})
    assert settings.storage.folder == tmp_path / "data"
    assert settings.storage.spool_folder == tmp_path / "data" / "spool"
    assert settings.models.models_dir == tmp_path / "weights"


def test_environment_outranks_models_dir(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('[models]\nmodels_dir = "weights"\n')
    assert load_settings(file, environment={MODELS_VARIABLE: "/m"}).models.models_dir == Path("/m")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().node.port = 1


DESTINATION = '[[destinations]]\nname = "a"\nae_title = "A"\nhost = "h"\nport = 104\n'


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[node]\nprt = 1\n", ["prt is not known in [node]", "did you mean port?"]),
        ('[priors]\nae_titel = "P"\n', ["ae_titel is not known in [priors]", "did you mean ae_title?"]),
        ('[results]\nlanguage = "it"\n', ["[results] language = 'it'", "'en', 'de', 'fr' or 'es'"]),
        ("[nod]\nport = 1\n", ["nod is not known", "did you mean node?"]),
        ("[node]\nport = 70000\n", ["[node] port = 70000", "65535"]),
        ('[node]\nport = "104"\n', ["[node] port = '104'", "integer"]),
        ('[node]\nae_title = "A_TITLE_OF_17_CHR"\n', ["[node] ae_title", "16"]),
        ('[node]\nae_title = "A\\\\B"\n', ["[node] ae_title", "backslash"]),
        ('[node]\nnon_images = "drop"\n', ["[node] non_images = 'drop'", "'accept' or 'refuse'"]),
        ('[node]\nfurther_sop_classes = ["CT"]\n', ["[node] further_sop_classes", "'CT'", "UID"]),
        ('[routes.ct]\norientations = ["tilted"]\n', ["[routes.ct] orientations", "'tilted'", "'axial'"]),
        ('[routes.ct]\nrefused_descriptions = ["("]\n', ["[routes.ct] refused_descriptions", "regular expr"]),
        ("[routes.ct]\nquiet_seconds = -1\n", ["[routes.ct] quiet_seconds = -1", "0"]),
        ('[[senders]]\nhost = "h"\n', ["[[senders]] number 1", "ae_title is missing"]),
        (DESTINATION + DESTINATION, ["same name: a"]),
        (DESTINATION + 'results = ["doc"]\n', ["[[destinations]] number 1 results", "'doc'", "'seg'"]),
        (DESTINATION + 'preset = "osirix"\n', ["[[destinations]] number 1 preset", "'osirix'", "'ohif'"]),
        ('[results]\ncompression = "rle"\n', ["[results]", "rle", 'segmentation = "labelmap"']),
        (
            '[results]\nsegmentation = "labelmap"\n'
            + DESTINATION
            + 'segmentation = "binary"\ncompression = "rle"\n',
            ["destination a", "rle"],
        ),
        ("[results]\ngenant_mild = 0.5\n", ["[results]", "must rise"]),
        ("node = 3\n", ["node = 3", "section"]),
        ("[senders]\na = 1\n", ["senders", "[[senders]]"]),
        ("[node\n", ["no TOML", "line 1"]),
    ],
)
def test_wrong_setting_is_named_with_what_is_allowed(tmp_path: Path, text: str, parts: list[str]) -> None:
    file = tmp_path / "node.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file, environment={})
    for part in [str(file), *parts]:
        assert part in str(caught.value)


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"port = -1.*device = 'tpu'"):
        settings_from({"node": {"port": -1}, "models": {"device": "tpu"}})


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml: cannot be read"):
        load_settings(tmp_path / "none.toml")


def destination(text: str, results: str = "") -> Destination:
    return settings_from(tomllib.loads(f"[results]\n{results}\n{DESTINATION}{text}")).destinations[0]


def test_a_preset_says_what_a_viewer_takes_and_an_explicit_setting_outranks_it() -> None:
    assert destination('preset = "plain-pacs"').results == ("sc",)
    assert destination('preset = "plain-pacs"\nresults = ["sc", "pdf"]').results == ("sc", "pdf")
    ohif = destination('preset = "ohif"\nsegmentation = "labelmap"')
    assert (ohif.segmentation, ohif.compression) == ("labelmap", "none")
    assert destination("").results == ("seg", "sr", "pr", "reformat")


def test_a_preset_outranks_the_results_section_where_its_viewer_needs_it() -> None:
    labelmaps = 'segmentation = "labelmap"\ncompression = "deflated"'
    slicer, archive = destination('preset = "slicer"', labelmaps), destination("", labelmaps)
    assert (slicer.segmentation, slicer.compression) == ("binary", "none")
    assert (archive.segmentation, archive.compression) == (None, None)


def test_settings_survive_the_way_to_the_analysis_process() -> None:
    text = '[results]\nsegmentation = "labelmap"\n' + DESTINATION + 'preset = "weasis-horos"\n'
    settings = settings_from(tomllib.loads(text))
    assert settings_from(json.loads(settings.model_dump_json())) == settings
