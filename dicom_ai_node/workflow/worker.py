"""The analysis in a process of its own: it may use all its memory or die in a decoder, and the node goes on.

`AnalysisWorker` is the node's end of the line, `main` the other. They exchange one JSON object a line: a
request down, any number of progress lines and one answer up. Images and label maps never travel; both ends
know the job's folder. The process ends when the node does, also when the node is killed: its end of the line
closes.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from dicom_ai_node.config import Settings, settings_from
from dicom_ai_node.errors import InputError, NotAnalysable, TransientError
from dicom_ai_node.workflow.handover import JobFolder, whole_folder
from dicom_ai_node.workflow.steps import NODE_STEPS, Progress, Steps, load_factory, refused, with_limitation

START_SECONDS: Final = 120.0


class WorkerDied(TransientError):
    """The analysis process ended, or had to be ended, before it answered."""


class WorkerRefused(Exception):
    """The step said no.

    Args:
        kind: name of the exception in the worker.
        text: its message.
        try_later: it was a TransientError.
    """

    def __init__(self, kind: str, text: str, *, try_later: bool) -> None:
        super().__init__(text)
        self.kind = kind
        self.try_later = try_later


class AnalysisWorker:
    """One analysis process, started when first asked and again after it died. One caller at a time.

    Args:
        settings: handed to the factory of the steps.
        factory: `module:function` that makes the `Steps`.
        timeout_s: a step that takes longer is ended.
    """

    def __init__(self, settings: Settings, factory: str = NODE_STEPS, timeout_s: float = 1800.0) -> None:
        self._settings = settings
        self._factory = factory
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    @property
    def pid(self) -> int | None:
        """The process, None before the first request."""
        return None if self._process is None else self._process.pid

    def ask(self, step: str, progress: Progress | None = None, **arguments: Any) -> Mapping[str, Any]:
        """Run a step in the process and wait for its answer.

        Raises:
            WorkerDied: the process ended, or took longer than the timeout.
            WorkerRefused: the step raised.
        """
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"step": step, **arguments}) + "\n")
            process.stdin.flush()
        except OSError as error:
            raise self._died(process) from error
        while True:
            try:
                answer = self._answers.get(timeout=self._timeout_s)
            except queue.Empty:
                self.stop()
                raise WorkerDied(f"the step {step!r} was ended after {self._timeout_s:.0f} s") from None
            if answer is None:
                raise self._died(process)
            if "progress" in answer:
                if progress is not None:
                    progress(*answer["progress"])
                continue
            if "error" in answer:
                raise WorkerRefused(answer["error"], answer["text"], try_later=answer["try_later"])
            return answer

    def start(self) -> None:
        """Start the process now rather than with the first request."""
        self._running()

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _running(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._answers = queue.SimpleQueue()
        self._process = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
            [sys.executable, "-m", "dicom_ai_node.workflow.worker", self._factory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        reader = threading.Thread(
            target=_forward, args=(self._process.stdout, self._answers), name="analysis-answers", daemon=True
        )
        reader.start()
        self._process.stdin.write(self._settings.model_dump_json() + "\n")
        self._process.stdin.flush()
        return self._process

    def _died(self, process: subprocess.Popen[str]) -> WorkerDied:
        code = process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._process = None
        return WorkerDied(f"the analysis process ended ({how}); was there memory enough?")


class WorkerPool:
    """A fixed number of workers, each lent to one job at a time."""

    def __init__(self, settings: Settings, factory: str = NODE_STEPS) -> None:
        timeout_s = settings.workflow.analysis_timeout_seconds
        self._workers = [
            AnalysisWorker(settings, factory, timeout_s) for _ in range(settings.workflow.workers)
        ]
        self._idle: queue.LifoQueue[AnalysisWorker] = queue.LifoQueue()
        for worker in self._workers:
            self._idle.put(worker)

    @contextmanager
    def borrow(self) -> Iterator[AnalysisWorker]:
        """A worker for the length of the block; waits for one."""
        worker = self._idle.get()
        try:
            yield worker
        finally:
            self._idle.put(worker)

    def start(self) -> None:
        """Start the processes now rather than with their first request."""
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.stop()


def _forward(lines: TextIO, answers: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    for line in lines:
        answers.put(json.loads(line))
    answers.put(None)


class _Desk:
    """The worker's end: takes requests, keeps the last source series for the encoding."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._last: tuple[Path, Any] | None = None

    def analyse(self, folder: JobFolder, request: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        self._last = None
        if not folder.analysis.exists():
            paths = folder.read_input()
            try:
                if request["refusal"] is not None:
                    raise NotAnalysable(*request["refusal"])
                analysis, source = self._steps.analyse(request["pipeline"], paths, progress)
                self._last = folder.path, source
                analysis = self._steps.compare(analysis, paths)
            except InputError as error:
                analysis = refused(error, paths, request["modality"])
            folder.write_analysis(with_limitation(analysis, request["left_out"]))
        report = folder.read_report()
        return {"status": report.status, "reason": "; ".join(reason.text for reason in report.reasons)}

    def encode(self, folder: JobFolder) -> dict[str, Any]:
        if not folder.results.exists():
            kept = self._last is not None and self._last[0] == folder.path
            source = self._last[1] if kept and self._last else self._steps.source(folder.read_input())
            analysis = folder.read_analysis()
            with whole_folder(folder.results) as results:
                objects = self._steps.encode(analysis, source, results)
                folder.write_objects(
                    results,
                    [
                        {
                            "kind": item.kind,
                            "variant": item.variant,
                            "file": item.path.name,
                            "sop_class_uid": item.sop_class_uid,
                            "sop_instance_uid": item.sop_instance_uid,
                        }
                        for item in objects
                    ],
                )
        self._last = None
        return {"objects": folder.read_objects()}

    def validate(self, folder: JobFolder) -> dict[str, Any]:
        self._steps.validate(
            [_Encoded(folder.results / item.pop("file"), **item) for item in folder.read_objects()]
        )
        return {}


class _Encoded:
    def __init__(
        self, path: Path, kind: str, sop_class_uid: str, sop_instance_uid: str, variant: str = ""
    ) -> None:
        self.path, self.kind, self.variant = path, kind, variant
        self.sop_class_uid, self.sop_instance_uid = sop_class_uid, sop_instance_uid


def main() -> None:
    """The process: the factory's name as argument, settings and requests on standard input."""
    # A stop of the node is not ours to judge: its end of the line closes when it is time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Libraries print; the line to the node must carry answers only.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    settings = settings_from(json.loads(sys.stdin.readline()), "settings of the node")
    threading.Thread(target=_listen, args=(requests,), name="requests", daemon=True).start()
    # Made before the first request: libraries and models are loaded while the first study is still arriving.
    desk, fault = _desk(settings)
    while True:
        request = json.loads(requests.get())
        try:
            if desk is None:
                raise fault or RuntimeError("no steps")
            answer = _serve(desk, request, answers)
        except Exception as error:
            later = isinstance(error, TransientError | MemoryError)
            answer = {"error": type(error).__name__, "text": str(error) or repr(error), "try_later": later}
            if not later and not isinstance(error, InputError):
                sys.excepthook(type(error), error, error.__traceback__)
        answers.write(json.dumps(answer) + "\n")


def _desk(settings: Settings) -> tuple[_Desk | None, Exception | None]:
    try:
        return _Desk(load_factory(sys.argv[1])(settings)), None
    except Exception as error:
        return None, error


def _serve(desk: _Desk, request: dict[str, Any], answers: TextIO) -> dict[str, Any]:
    folder = JobFolder(Path(request["folder"]))
    match request["step"]:
        case "analyse":

            def progress(name: str, done: float) -> None:
                answers.write(json.dumps({"progress": [name, done]}) + "\n")

            return desk.analyse(folder, request, progress)
        case "encode":
            return desk.encode(folder)
        case "validate":
            return desk.validate(folder)
        case unknown:
            raise ValueError(f"no step {unknown!r}")


def _listen(requests: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    # The node is gone; nobody will read the answer.
    os._exit(0)


if __name__ == "__main__":
    main()
