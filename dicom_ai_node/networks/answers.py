"""Answers of networks: tensors, or tensors inside of dictionaries and (named) tuples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor


def each_tensor(change: Callable[[Tensor], Tensor], answer: Any) -> Any:
    """The answer with each of its tensors changed; what is no tensor stays as it is."""
    if isinstance(answer, Tensor):
        return change(answer)
    if isinstance(answer, Mapping):
        return {name: each_tensor(change, item) for name, item in answer.items()}
    if isinstance(answer, tuple) and hasattr(answer, "_fields"):
        return type(answer)(*(each_tensor(change, item) for item in answer))
    if isinstance(answer, tuple | list):
        return type(answer)(each_tensor(change, item) for item in answer)
    return answer
