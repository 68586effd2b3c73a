"""Independent pieces of one image, several at a time; their results come in order, so that sums repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def in_order(tasks: Iterable[Callable[[], T]], device: torch.device) -> Iterator[T]:
    """The results of tasks, in their order.

    On a CPU as many run at once as torch has threads, each on one of them: pieces that fit a processor's
    cache are too small to be shared out operation by operation. On another device they run one by one.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        for task in tasks:
            yield task()
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(lambda task: task(), tasks)
    finally:
        torch.set_num_threads(threads)
