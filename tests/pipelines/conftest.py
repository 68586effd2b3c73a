"""Fixtures of the pipelines' tests."""

from tests.pipelines.film_oracle import crops_are_known

__all__ = ["crops_are_known"]
