"""The listening side: accepts connections and serves each association in a thread of its own.

`StorageScp` takes instances into a spool and answers success only when they are on the disk. It knows no
database and no other receiver, so several can share one port.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import structlog

from dicom_ai_node.config import Settings
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.intake.spool import Spool
from dicom_ai_node.node.association import Answer, AssociationAcceptor, Timeouts
from dicom_ai_node.node.dimse import Command
from dicom_ai_node.node.negotiation import Agreement, Context, Negotiator
from dicom_ai_node.node.store import Receiver, StoreRequest

_log = structlog.get_logger(__name__)

_BACKLOG: Final = 128
# connections that have not yet said who they are; beyond these a caller is not even listened to
_SPARE_CONNECTIONS: Final = 32


@dataclass(eq=False)
class _Served:
    """One connection, what serves it, and what it brought so far."""

    host: str
    began: float = field(default_factory=time.monotonic)
    acceptor: AssociationAcceptor | None = None
    thread: threading.Thread | None = None
    outcomes: dict[str, int] = field(default_factory=dict)
    size: int = 0


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
        self._negotiator = Negotiator(settings)
        self._share_port = share_port
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._served: set[_Served] = set()

    @property
    def port(self) -> int:
        """The port that is listened on; differs from the setting where that is 0 (any free port)."""
        listener = self._listener
        return self._settings.node.port if listener is None else int(listener.getsockname()[1])

    def start(self) -> None:
        """Listen, in the background.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        node = self._settings.node
        try:
            listener = self._listen()
        except OSError as error:
            raise ConfigurationError(
                f"[node] host = {node.host!r}, port = {node.port}: cannot be listened on ({error.strerror}); "
                "choose another port, or stop the program that has it"
            ) from error
        self._listener = listener
        self._thread = threading.Thread(target=self._accept, args=(listener,), name="scp", daemon=True)
        self._thread.start()
        _log.info("listening", ae_title=node.ae_title, host=node.host, port=self.port)

    def stop(self, grace_seconds: float = 5.0) -> None:
        """Take no more associations, let messages that are being received finish, end everything else."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        # wakes the thread that waits in accept, which close alone does not
        listener.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join()
        listener.close()
        for served in self._open():
            if served.acceptor is not None:
                served.acceptor.stop()
        self._wait(grace_seconds)
        for served in self._open():
            if served.acceptor is not None:
                served.acceptor.cut()
        self._wait(grace_seconds)
        _log.info("stopped listening", ae_title=self._settings.node.ae_title)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _listen(self) -> socket.socket:
        node = self._settings.node
        family, kind, protocol, _, address = socket.getaddrinfo(
            node.host, node.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._share_port:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, address = listener.accept()
            except OSError as error:
                if self._listener is None:
                    return
                # out of file descriptors, mostly: those who wait are served when others have left
                _log.error("connection not accepted", reason=error.strerror)
                time.sleep(0.1)
                continue
            served = _Served(str(address[0]))
            with self._lock:
                full = len(self._served) >= self._settings.node.max_associations + _SPARE_CONNECTIONS
                if not full:
                    self._served.add(served)
            if full:
                _log.warning("connection refused", host=served.host, reason="too many connections")
                connection.close()
                continue
            served.thread = threading.Thread(
                target=self._serve, args=(connection, served), name="association", daemon=True
            )
            served.thread.start()

    def _serve(self, connection: socket.socket, served: _Served) -> None:
        node = self._settings.node
        end = "fault in the node"
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            served.acceptor = AssociationAcceptor(
                connection,
                negotiate=lambda pdu: self._negotiator.answer(pdu, served.host, too_many=self._full()),
                store=lambda *request: self._store(served, *request),
                timeouts=Timeouts(
                    node.association_timeout_seconds,
                    node.network_timeout_seconds,
                    node.message_timeout_seconds,
                ),
                largest_data_set=node.max_instance_mb * 1_000_000,
            )
            if self._listener is None:
                served.acceptor.stop()
            end = served.acceptor.serve()
        # one association's fault must not be silent, and must not be the others'
        except Exception:
            _log.exception("fault in an association", host=served.host)
        finally:
            connection.close()
            with self._lock:
                self._served.discard(served)
            self._report(served, end)

    def _full(self) -> bool:
        with self._lock:
            established = sum(
                item.acceptor is not None
                and item.acceptor.agreement is not None
                and item.acceptor.agreement.rejection is None
                for item in self._served
            )
        return established >= self._settings.node.max_associations

    def _store(
        self, served: _Served, agreement: Agreement, context: Context, command: Command, data: memoryview
    ) -> Answer:
        answer = self._receiver.receive(
            StoreRequest(
                affected_sop_class_uid=command.affected_sop_class_uid,
                affected_sop_instance_uid=command.affected_sop_instance_uid,
                context_sop_class_uid=context.sop_class_uid,
                transfer_syntax_uid=context.transfer_syntax_uid,
                calling_ae_title=agreement.calling_ae_title,
                data_set=data,
            )
        )
        outcome = answer.outcome or "refused"
        served.outcomes[outcome] = served.outcomes.get(outcome, 0) + 1
        served.size += len(data)
        return Answer(int(answer.status), answer.reason)

    def _report(self, served: _Served, end: str) -> None:
        agreement = served.acceptor.agreement if served.acceptor is not None else None
        # a port scanner or load balancer opens and closes without a word
        if agreement is None and end == "connection closed by the peer":
            return
        refused = agreement is None or agreement.rejection is not None
        _log.log(
            30 if refused else 20,
            "association refused" if refused else "association ended",
            end=end,
            calling_ae=None if agreement is None else agreement.calling_ae_title,
            called_ae=None if agreement is None else agreement.called_ae_title,
            host=served.host,
            seconds=round(time.monotonic() - served.began, 3),
            megabytes=round(served.size / 1e6, 3),
            **{outcome.replace("-", "_"): count for outcome, count in served.outcomes.items()},
        )

    def _open(self) -> list[_Served]:
        with self._lock:
            return list(self._served)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for served in self._open():
            if served.thread is not None and served.thread is not threading.current_thread():
                served.thread.join(max(deadline - time.monotonic(), 0.0))
