"""Real films that are no lateral spine: what the shipped networks say of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.radiograph import load_radiograph
from dicom_ai_node.inference.bundle import find_models_dir
from dicom_ai_node.pipelines.radiograph import RadiographPipeline
from tests.e2e.running_node import needs_models

pytestmark = needs_models

CHEST = "wg04/J2KI/RG1_J2KI"
HIP = "wg04/J2KR/RG2_J2KR"
LEG = "pydicom-data/data_store/data/RG3_J2KR.dcm"
DOG = "highdicom/data/test_files/dx_image.dcm"
TEST_PATTERN = "pydicom-data/data_store/data/vlut_04.dcm"
BONE_SCAN = "pydicom/src/pydicom/data/test_files/JPEG2000.dcm"


@pytest.fixture(scope="module")
def pipeline() -> RadiographPipeline:
    return RadiographPipeline.load(find_models_dir(None), torch.device("cpu"))


@pytest.mark.parametrize("name", [CHEST, HIP, LEG, DOG, TEST_PATTERN, BONE_SCAN])
def test_real_films_of_other_parts_are_refused(
    shared_data: Path, pipeline: RadiographPipeline, name: str
) -> None:
    with pytest.raises(NotAnalysable, match=r"[Ss]end lateral films of the spine") as refusal:
        pipeline.analyse(load_radiograph(shared_data / "dicom" / name))
    assert refusal.value.code in {"orientation", "no-spine"}


def test_a_real_chest_film_is_called_one(shared_data: Path, pipeline: RadiographPipeline) -> None:
    with pytest.raises(NotAnalysable, match="rather like a chest film"):
        pipeline.analyse(load_radiograph(shared_data / "dicom" / CHEST))
