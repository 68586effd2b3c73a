"""Who made a result object: deterministic UIDs, the equipment's names, and how to know our own objects.

A result's UIDs are derived from what went in (SOP instances, bundle hashes) and its kind: a repeated
analysis gives the same object, and nothing reaches an archive twice under two names.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from pydicom.dataset import Dataset

from dicom_ai_node import __version__
from dicom_ai_node.prior import PriorReport
from dicom_ai_node.report import Algorithm
from dicom_ai_node.results.language import ENGLISH, Language

MANUFACTURER: Final = "dicom-ai-node project"
MODEL_NAME: Final = "dicom-ai-node"

_NAMESPACE: Final = uuid.UUID("6f1d8f0e-0f0e-4a47-9a53-1d2f6b0d7c11")


def _uid(text: str) -> str:
    """A name-based UUID as a UID under 2.25 (PS3.5 section B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, text).int}"


PRIVATE_CODING_SCHEME_UID: Final = _uid("private coding scheme")
DEVICE_UID: Final = _uid(f"device {__version__}")
"""The node's Device UID: one per released version."""


@dataclass(frozen=True)
class ResultIdentity:
    """What the UIDs of one analysis' results are derived from.

    Attributes:
        study_instance_uid: the study that the results belong to.
        inputs: SOP Instance UIDs of all analysed instances, in any order.
        bundles: hashes of all model bundles that had a say, in any order.
        tracked: (level, Tracking Unique Identifier) of vertebrae that an earlier report tracks.
        prior: SOP Instance UID of that report.
    """

    study_instance_uid: str
    inputs: tuple[str, ...]
    bundles: tuple[str, ...]
    tracked: tuple[tuple[str, str], ...] = ()
    prior: str = ""

    @classmethod
    def of(
        cls,
        study_instance_uid: str,
        inputs: Iterable[str],
        algorithms: Iterable[Algorithm],
        prior: PriorReport | None = None,
    ) -> ResultIdentity:
        """The identity of results made from `inputs` by `algorithms`, compared with `prior`."""
        hashes = (f"{item.name} {item.bundle_sha256}" for item in algorithms)
        own = cls(study_instance_uid, tuple(sorted(set(inputs))), tuple(sorted(set(hashes))))
        if prior is None:
            return own
        tracked = tuple((item.level.value, item.tracking_uid) for item in prior)
        return replace(own, tracked=tracked, prior=prior.sop_instance_uid)

    def uid(self, kind: str) -> str:
        """The UID of the object (or series, or frame of reference) called `kind`; the same for the same call.

        The version of this package counts as an input, since another version may write other bytes.
        """
        digest = hashlib.sha256()
        made_of = (*self.inputs, "", *self.bundles, *(("", self.prior) if self.prior else ()))
        for part in (__version__, self.study_instance_uid, *made_of, "", kind):
            digest.update(part.encode() + b"\0")
        return _uid(digest.hexdigest())

    def tracking_uid(self, level: str) -> str:
        """The Tracking Unique Identifier of one vertebra: the same in every analysis of its study.

        A vertebra that an earlier report tracks keeps the identifier that it has there.
        """
        return dict(self.tracked).get(level) or _uid(f"tracking {self.study_instance_uid} {level}")


def in_language(kind: str, language: Language) -> str:
    """What an object with words in it is derived for: ``pr-1`` in English, ``pr-1-de`` in German.

    Both may lie in one archive: they are two objects of one series.
    """
    return kind if language is ENGLISH else f"{kind}-{language.tag}"


def is_own_result(dataset: Dataset) -> bool:
    """Whether this node (any version) made the object, so that it must not be analysed again.

    Looks at the equipment that the object names, also as a contributor: an archive may have put its own
    name in front, but may not remove contributors. Those are the algorithms, whatever they are called.
    """
    if _made_by_us(dataset) and str(dataset.get("ManufacturerModelName", "")).strip() == MODEL_NAME:
        return True
    return any(_made_by_us(item) for item in dataset.get("ContributingEquipmentSequence", ()))


def _made_by_us(equipment: Dataset) -> bool:
    return str(equipment.get("Manufacturer", "")).strip() == MANUFACTURER
