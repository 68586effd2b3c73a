"""What an administrator may get wrong about the interface is named, with the way out, before it listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dicom_ai_node.commands.doctor import _http
from dicom_ai_node.config import settings_from
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.web.authentication import read_token, tls_context
from dicom_ai_node.web.interface import HttpInterface
from tests.web.conftest import TOKEN


def test_the_token_stands_in_the_settings_or_alone_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    for http in ({"token": TOKEN}, {"token_file": str(file)}):
        assert read_token(settings_from({"http": http}).http) == TOKEN


def test_without_a_token_the_node_says_how_to_make_one_and_does_not_start() -> None:
    with pytest.raises(ConfigurationError, match=r"secrets\.token_urlsafe\(32\)"):
        HttpInterface(settings_from({"http": {"enabled": True}}))


@pytest.mark.parametrize("content", ["short", "two words of which none is a token", "ü" * 20, ""])
def test_what_is_no_token_is_refused_and_not_shown(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigurationError, match=r"16 or more|cannot be read") as told:
        read_token(settings_from({"http": {"token_file": str(file)}}).http)
    assert not content or content not in str(told.value)
    if content:
        with pytest.raises(ConfigurationError, match="16 or more") as told:
            settings_from({"http": {"token": content}})
        assert content not in str(told.value)


def test_two_tokens_are_one_too_many() -> None:
    with pytest.raises(ConfigurationError, match="keep one"):
        read_token(settings_from({"http": {"token": TOKEN, "token_file": "token"}}).http)


@pytest.mark.parametrize(
    ("http", "words"),
    [
        ({"enabled": True, "host": "0.0.0.0"}, "certificate and private_key"),
        ({"enabled": True, "host": "node.example"}, "reverse proxy"),
        ({"certificate": "node.crt"}, "go together"),
        ({"dicomweb": [{"url": "ftp://archive"}]}, r"\[\[http.dicomweb\]\] number 1 url"),
        ({"dicomweb": [{"url": "https://node:secret@archive/dicom-web"}]}, "no user and password"),
        ({"dicomweb": [{"url": "https://archive", "user": "node"}]}, "password_file"),
    ],
)
def test_settings_that_would_be_unsafe_are_refused(http: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as told:
        settings_from({"http": http})
    assert "secret" not in str(told.value)


def test_certificate_and_key_are_looked_at_before_the_node_listens(tmp_path: Path) -> None:
    (tmp_path / "node.crt").write_text("no certificate")
    http = {"certificate": str(tmp_path / "node.crt"), "private_key": str(tmp_path / "node.key")}
    with pytest.raises(ConfigurationError, match="PEM"):
        tls_context(settings_from({"http": http}).http)


def test_doctor_looks_at_the_interface(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o644)
    http = {"enabled": True, "port": 0, "token_file": str(file), "paths": [str(tmp_path / "gone")]}
    found = {item.what: item for item in _http(settings_from({"http": http}))}
    assert {what: item.verdict for what, item in found.items()} == {
        "http token": "note",
        "http paths": "note",
        "http": "ok",
    }
    assert "chmod 600" in found["http token"].text
    file.chmod(0o600)
    assert "http token" not in {item.what for item in _http(settings_from({"http": http}))}
    assert list(_http(settings_from({}))) == []
