"""One table of `node.toml`; what stands in it is in `values`."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One table of `node.toml`: unknown keys are refused, values keep their TOML type, all is frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


SectionT = TypeVar("SectionT", bound=Section)
