"""Networks on a GPU whose kernels are launched all at once: CUDA graphs, one for each shape of input."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

from dicom_ai_node.networks.answers import each_tensor

log = logging.getLogger(__name__)

MOST: Final = 16
"""So many shapes are kept per network, as many as batches of planes have sizes; each has its own buffers."""

SAME: Final = 0.01
"""A graph may differ from the eager answer by so much of the answer's greatest value; half precision does."""

Replay = Callable[[Tensor], Any]
Capture = Callable[[nn.Module, Tensor], Replay]


class CapturedByShape(nn.Module):
    """A network that answers inputs of a shape that came before from a captured graph.

    A small network is over sooner than a processor launches its many kernels one by one. The first input of
    a shape is answered eagerly, for sizes that come once are not worth a capture. At the second one the
    network is captured, and the graph is believed only if it repeats the eager answer: a shape that cannot be
    captured, or whose graph says something else, stays eager, and the log says so.

    Args:
        network: in evaluation mode, whose kernels depend on its input's shape alone.
        capture: makes what replays the network for inputs like the one given.
    """

    def __init__(self, network: nn.Module, capture: Capture | None = None) -> None:
        super().__init__()
        self.network = network
        self._capture = capture or captured_on_cuda
        self._replays: OrderedDict[tuple[Any, ...], Replay | None] = OrderedDict()
        self._once: OrderedDict[tuple[Any, ...], None] = OrderedDict()
        # A graph has one input and one output: two threads must not replay it at once.
        self._lock = threading.Lock()

    @property
    def multiple(self) -> int:
        """Of the network, where sizes of its input must be multiples."""
        return int(self.network.multiple)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Any:
        """As the network."""
        key = (tuple(x.shape), x.dtype, x.device)
        with self._lock:
            if key in self._replays:
                self._replays.move_to_end(key)
                replay = self._replays[key]
                if replay is not None:
                    return replay(x)
            elif key in self._once:
                del self._once[key]
                return self._captured(key, x)
            else:
                _keep(self._once, key, None, 8 * MOST)
        return self.network(x)

    def _captured(self, key: tuple[Any, ...], x: Tensor) -> Any:
        answer = self.network(x)
        replay: Replay | None = None
        try:
            replay = self._capture(self.network, x)
            same = _alike(replay(x), answer)
        except RuntimeError as error:
            replay, same = None, True
            log.warning("inputs of %s stay without a CUDA graph: %s", key[0], error)
        if not same:
            replay = None
            log.warning("inputs of %s stay without a CUDA graph: it answers otherwise", key[0])
        _keep(self._replays, key, replay, MOST)
        return answer


def captured_on_cuda(network: nn.Module, x: Tensor) -> Replay:
    """The network's kernels for inputs of one shape, recorded once.

    Raises:
        RuntimeError: the network does something that cannot be recorded.
    """
    still = x.clone()
    # Libraries choose their kernels and take their memory in the first runs: not while recording.
    aside = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(x.device))
    with torch.cuda.stream(aside):
        for _ in range(3):
            network(still)
    torch.cuda.current_stream(x.device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        answer = network(still)

    def replay(new: Tensor) -> Any:
        still.copy_(new)
        graph.replay()
        # The next replay writes into the same memory.
        return each_tensor(torch.clone, answer)

    return replay


def _keep(kept: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)


def _alike(one: Any, other: Any) -> bool:
    pairs = list(zip(_tensors(one), _tensors(other), strict=True))
    return all(
        a.shape == b.shape and bool(((a - b).abs().amax() <= SAME * b.abs().amax().clamp(min=1e-6)).item())
        for a, b in pairs
        if b.numel()
    )


def _tensors(answer: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def note(item: Tensor) -> Tensor:
        found.append(item)
        return item

    each_tensor(note, answer)
    return found
