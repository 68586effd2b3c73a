"""The listening side: associations, C-ECHO and C-STORE, on pynetdicom.

`StorageScp` takes instances into a spool and answers success only when they are on the disk. It knows no
database and no other receiver, so several can share one port.

Source: PS3.7 (DIMSE), PS3.8 section 9 (upper layer).
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import structlog
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from dicom_ai_node.config import Settings
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.intake.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_ai_node.intake.spool import Spool
from dicom_ai_node.node.sop_classes import accepted_sop_classes, decodable_transfer_syntaxes
from dicom_ai_node.node.store import Receiver, StoreRequest, StoreStatus

_log = structlog.get_logger(__name__)

_CALLING_AE_UNKNOWN: Final = (0x01, 0x01, 0x03)
_CALLED_AE_UNKNOWN: Final = (0x01, 0x01, 0x07)
_REJECTED_BECAUSE: Final = {
    _CALLING_AE_UNKNOWN: "calling AE title or host is not among [[senders]]",
    _CALLED_AE_UNKNOWN: "called AE title is not [node] ae_title",
}


@dataclass
class _Tally:
    """What one association brought."""

    began: float = field(default_factory=time.monotonic)
    requested: bool = False
    outcomes: dict[str, int] = field(default_factory=dict)
    size: int = 0
    end: str = "connection closed"


class StorageScp:
    """The node's storage and verification SCP.

    Args:
        settings: `[node]` and `[[senders]]` are used.
        spool: where instances go.
        share_port: let several processes listen on the same port (SO_REUSEPORT).
    """

    def __init__(self, settings: Settings, spool: Spool, *, share_port: bool = False) -> None:
        self._settings = settings
        self._receiver = Receiver(settings, spool)
        self._share_port = share_port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._tallies: dict[Association, _Tally] = {}

    @property
    def port(self) -> int:
        """The port that is listened on; differs from the setting where that is 0 (any free port)."""
        if self._server is None:
            return self._settings.node.port
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Listen, in the background.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        node = self._settings.node
        # pynetdicom formats every message for its own log otherwise, identifiers and all
        _config.LOG_HANDLER_LEVEL = "none"
        entity = AE(ae_title=node.ae_title)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.maximum_associations = node.max_associations
        entity.maximum_pdu_size = node.max_pdu_bytes
        entity.acse_timeout = node.association_timeout_seconds
        entity.dimse_timeout = node.message_timeout_seconds
        entity.network_timeout = node.network_timeout_seconds
        entity.add_supported_context(Verification)
        for sop_class in accepted_sop_classes(node):
            entity.add_supported_context(sop_class, list(decodable_transfer_syntaxes()))
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._on_open),
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_REJECTED, self._on_rejected),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_RELEASED, self._on_released),
            (evt.EVT_ABORTED, self._on_aborted),
            (evt.EVT_CONN_CLOSE, self._on_close),
        ]
        try:
            server = (_SharingServer if self._share_port else _Server)(
                entity,
                (node.host, node.port),
                node.ae_title,
                entity.supported_contexts,
                evt_handlers=handlers,
            )
        except OSError as error:
            raise ConfigurationError(
                f"[node] host = {node.host!r}, port = {node.port}: cannot be listened on ({error.strerror}); "
                "choose another port, or stop the program that has it"
            ) from error
        # pynetdicom takes the server off this list when it is shut down
        entity._servers.append(server)
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="scp", daemon=True
        )
        self._thread.start()
        _log.info("listening", ae_title=node.ae_title, host=node.host, port=self.port)

    def stop(self, grace_seconds: float = 5.0) -> None:
        """Take no more associations, let those that run finish for a while, abort the rest."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        if self._thread is not None:
            self._thread.join()
        deadline = time.monotonic() + grace_seconds
        while server.active_associations and time.monotonic() < deadline:
            time.sleep(0.02)
        for association in server.active_associations:
            association.abort()
        for association in server.active_associations:
            association.join(timeout=2.0)
        _log.info("stopped listening", ae_title=self._settings.node.ae_title)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _on_open(self, event: evt.Event) -> None:
        self._tallies[event.assoc] = _Tally()

    def _on_requested(self, event: evt.Event) -> None:
        association = event.assoc
        self._tally(association).requested = True
        rejection = self._rejection(association)
        if rejection is None:
            return
        association.acse.send_reject(*rejection)
        association.is_rejected = True
        self._tally(association).end = f"rejected: {_REJECTED_BECAUSE[rejection]}"
        association.kill()

    def _rejection(self, association: Association) -> tuple[int, int, int] | None:
        node, senders = self._settings.node, self._settings.senders
        request: Any = association.requestor.primitive
        if node.require_called_ae_title and request.called_ae_title.strip() != node.ae_title:
            return _CALLED_AE_UNKNOWN
        calling, host = request.calling_ae_title.strip(), association.requestor.address
        known = not senders or any(
            sender.ae_title == calling and (sender.host is None or host in _addresses(sender.host))
            for sender in senders
        )
        return None if known else _CALLING_AE_UNKNOWN

    def _on_rejected(self, event: evt.Event) -> None:
        self._tally(
            event.assoc
        ).end = f"rejected: more than [node] max_associations = {event.assoc.ae.maximum_associations}"

    def _on_store(self, event: evt.Event) -> Any:
        request: Any = event.request
        data_set = request.DataSet.getbuffer() if request.DataSet else memoryview(b"")
        tally = self._tally(event.assoc)
        answer = self._receiver.receive(
            StoreRequest(
                affected_sop_class_uid=str(request.AffectedSOPClassUID),
                affected_sop_instance_uid=str(request.AffectedSOPInstanceUID),
                context_sop_class_uid=str(event.context.abstract_syntax),
                transfer_syntax_uid=str(event.context.transfer_syntax),
                calling_ae_title=event.assoc.requestor.ae_title.strip(),
                data_set=data_set,
            )
        )
        tally.size += len(data_set)
        outcome = answer.outcome or "refused"
        tally.outcomes[outcome] = tally.outcomes.get(outcome, 0) + 1
        return int(answer.status) if answer.status is StoreStatus.SUCCESS else answer.to_dataset()

    def _on_released(self, event: evt.Event) -> None:
        self._tally(event.assoc).end = "released"

    def _on_aborted(self, event: evt.Event) -> None:
        self._tally(event.assoc).end = "aborted"

    def _on_close(self, event: evt.Event) -> None:
        tally = self._tallies.pop(event.assoc, None)
        # a port scanner or load balancer opens and closes without a word
        if tally is None or not tally.requested:
            return
        association = event.assoc
        _log.info(
            "association ended",
            end=tally.end,
            calling_ae=association.requestor.ae_title.strip(),
            host=association.requestor.address,
            seconds=round(time.monotonic() - tally.began, 3),
            megabytes=round(tally.size / 1e6, 3),
            **tally.outcomes,
        )

    def _tally(self, association: Association) -> _Tally:
        return self._tallies.setdefault(association, _Tally())


class _Server(ThreadedAssociationServer):
    """pynetdicom's server with small answers sent at once."""

    # a PACS opens several associations at a time
    request_queue_size = 128
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address


class _SharingServer(_Server):
    def server_bind(self) -> None:
        assert self.socket is not None
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()


def _addresses(host: str) -> set[str]:
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        _log.warning("sender's host has no address", host=host)
        return set()
