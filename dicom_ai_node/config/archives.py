"""Archives that the node asks for something; where results go to is in `destinations`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from dicom_ai_node.config.section import Section
from dicom_ai_node.config.values import AETitle, FilePath, Host, PeerPort, Seconds, ServiceRoot


class QuerySettings(Section):
    """`[query]`: an archive that is asked how many instances a series has (C-FIND)."""

    ae_title: AETitle
    host: Host
    port: PeerPort
    calling_ae_title: AETitle | None = None
    timeout_seconds: Seconds = 5.0


class PriorSettings(Section):
    """`[priors]`: an archive that is asked for this node's earlier reports of the patient (C-FIND, C-GET)."""

    ae_title: AETitle
    host: Host
    port: PeerPort
    calling_ae_title: AETitle | None = None
    timeout_seconds: Seconds = 10.0
    studies: Annotated[int, Field(ge=1, le=100)] = 5


class DicomwebServer(Section):
    """A DICOMweb service root, and how the node shows who it is: with a token, or with user and password."""

    url: ServiceRoot
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
