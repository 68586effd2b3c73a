"""The HTTP interface."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import model_validator

from dicom_ai_node.config.archives import DicomwebServer
from dicom_ai_node.config.section import Section
from dicom_ai_node.config.values import AS_TUPLE, FilePath, Host, Port, Token, is_loopback


class HttpSettings(Section):
    """`[http]`: the HTTP interface, for other programs and for archives that speak DICOMweb."""

    enabled: bool = False
    host: Host = "127.0.0.1"
    port: Port = 8080
    token: Token | None = None
    token_file: FilePath | None = None
    certificate: FilePath | None = None
    private_key: FilePath | None = None
    paths: Annotated[tuple[FilePath, ...], AS_TUPLE] = ()
    dicomweb: Annotated[tuple[DicomwebServer, ...], AS_TUPLE] = ()

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
