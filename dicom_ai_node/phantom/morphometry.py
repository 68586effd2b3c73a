"""How large healthy vertebral bodies are, level by level.

Sizes are means of adults in millimetres. Endplate widths and depths: Panjabi et al. 1991 (cervical and
thoracic), 1992 (lumbar), rounded. Heights: the mean spacing of body centres (ImFusion VID) less the
disc, which agrees with CT morphometry (vertebrae in CT are some 10 % higher than Panjabi's dry specimens).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from dicom_ai_node.anatomy import Level


class BodySize(NamedTuple):
    """Mean size of one healthy body: endplate widths and depths, posterior height (mm), front/back height."""

    upper_width: float
    lower_width: float
    upper_depth: float
    lower_depth: float
    posterior_height: float
    wedge_ratio: float
    dish: float


BODY_SIZES: Final[Mapping[Level, BodySize]] = {
    Level.C3: BodySize(16.5, 17.5, 15.0, 15.6, 13.2, 0.98, 0.6),
    Level.C4: BodySize(17.2, 18.0, 15.3, 15.9, 12.8, 0.98, 0.6),
    Level.C5: BodySize(17.8, 19.4, 15.4, 16.8, 12.4, 0.97, 0.6),
    Level.C6: BodySize(19.0, 22.0, 16.2, 17.4, 12.8, 0.97, 0.6),
    Level.C7: BodySize(22.0, 24.0, 16.8, 17.6, 14.4, 0.97, 0.6),
    Level.T1: BodySize(25.5, 27.8, 17.8, 19.2, 15.6, 0.96, 0.6),
    Level.T2: BodySize(26.0, 27.4, 19.2, 21.0, 16.4, 0.95, 0.6),
    Level.T3: BodySize(25.4, 26.4, 21.4, 22.8, 16.6, 0.95, 0.6),
    Level.T4: BodySize(25.2, 26.4, 23.0, 24.2, 17.0, 0.94, 0.7),
    Level.T5: BodySize(25.6, 27.2, 24.3, 25.6, 17.4, 0.94, 0.8),
    Level.T6: BodySize(26.8, 28.4, 25.8, 26.8, 17.8, 0.93, 0.8),
    Level.T7: BodySize(28.0, 29.4, 27.0, 28.2, 18.4, 0.93, 0.9),
    Level.T8: BodySize(29.6, 30.8, 28.0, 29.2, 19.0, 0.93, 0.9),
    Level.T9: BodySize(30.8, 33.0, 29.2, 30.4, 19.9, 0.94, 1.0),
    Level.T10: BodySize(32.4, 35.6, 30.2, 31.2, 21.4, 0.94, 1.1),
    Level.T11: BodySize(35.4, 39.0, 31.4, 31.8, 22.9, 0.93, 1.2),
    Level.T12: BodySize(39.0, 42.0, 32.2, 32.8, 24.7, 0.94, 1.4),
    Level.T13: BodySize(40.0, 42.6, 32.8, 33.6, 25.4, 0.95, 1.4),
    Level.L1: BodySize(41.2, 43.6, 33.4, 34.2, 26.4, 0.96, 1.6),
    Level.L2: BodySize(42.8, 45.6, 34.2, 34.8, 27.1, 0.99, 1.7),
    Level.L3: BodySize(44.6, 48.0, 34.8, 35.0, 27.0, 1.02, 1.8),
    Level.L4: BodySize(47.0, 49.8, 35.2, 35.2, 26.3, 1.06, 1.8),
    Level.L5: BodySize(49.0, 50.6, 35.2, 34.4, 24.4, 1.14, 1.6),
    Level.L6: BodySize(50.0, 51.0, 35.0, 34.0, 24.0, 1.14, 1.6),
    Level.S1: BodySize(50.0, 36.0, 33.0, 21.0, 24.0, 1.22, 0.8),
}
"""Mean healthy body per level; S1 is the first sacral segment, fused to the second below."""
