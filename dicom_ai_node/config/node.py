"""The node as others see it: on the network, and in its logs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dicom_ai_node.config.section import Section
from dicom_ai_node.config.values import AS_TUPLE, AETitle, Host, Port, Seconds, Uid


class NodeSettings(Section):
    """`[node]`: the node's own face on the network."""

    ae_title: AETitle = "DICOM_AI"
    host: Host = "0.0.0.0"  # noqa: S104 - a PACS calls from another machine
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
    further_sop_classes: Annotated[tuple[Uid, ...], AS_TUPLE] = ()


class Sender(Section):
    """`[[senders]]`: one peer that may open an association; no entry at all means anyone may."""

    ae_title: AETitle
    host: str | None = None


class SecuritySettings(Section):
    """`[security]`: what may be seen of patients outside the images."""

    log_identifiers: bool = False
