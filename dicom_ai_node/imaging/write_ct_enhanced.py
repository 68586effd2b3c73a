"""What an enhanced CT object holds beyond patient, study and series: functional groups (PS3.3 A.38)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag

if TYPE_CHECKING:
    from dicom_ai_node.imaging.write_ct import CtHeader

Affine = npt.NDArray[np.float64]


def enhanced_attributes(
    one: Dataset,
    affine: Affine,
    about: CtHeader,
    stack: tuple[int, float],
    identifiers: tuple[str, str],
) -> None:
    """Add what Enhanced CT asks for: image, dimensions, functional groups.

    Args:
        one: patient, study, series, equipment and pixel description are there.
        affine: 4x4, (frame, row, column, 1) to LPS millimetres.
        about: the header.
        stack: number of frames, and gantry tilt in degrees.
        identifiers: Dimension Organization UID, and Irradiation Event UID.
    """
    count, tilt = stack
    row_step, column_step = affine[:3, 1], affine[:3, 2]
    spacing = [float(np.linalg.norm(row_step)), float(np.linalg.norm(column_step))]
    cosines = [float(v) for v in (*(column_step / spacing[1]), *(row_step / spacing[0]))]
    distance = abs(float(affine[:3, 0] @ np.cross(cosines[:3], cosines[3:])))
    origin = about.image_type[0]
    kind = [origin, "PRIMARY", "VOLUME", "NONE"]
    one.ImageType = kind
    one.NumberOfFrames = count
    if "Laterality" in one:
        # Each frame says it, in Frame Anatomy.
        del one.Laterality
    started = f"{one.AcquisitionDate}{one.AcquisitionTime}"
    del one.AcquisitionDate, one.AcquisitionTime
    _image(one, started)
    _dimensions(one, identifiers[0])
    shared = Dataset()
    shared.PixelMeasuresSequence = _item(
        PixelSpacing=[_short(v) for v in spacing],
        SliceThickness=_short(about.slice_thickness_mm or distance),
    )
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=[_short(v) for v in cosines])
    shared.FrameAnatomySequence = _item(
        FrameLaterality="U",
        AnatomicRegionSequence=_item(
            CodeValue="421060004", CodingSchemeDesignator="SCT", CodeMeaning="Vertebral column"
        ),
    )
    shared.PixelValueTransformationSequence = _item(
        RescaleIntercept=str(about.rescale_intercept), RescaleSlope="1", RescaleType="HU"
    )
    shared.FrameVOILUTSequence = _item(
        WindowCenter=_short(about.window[0]),
        WindowWidth=_short(about.window[1]),
        WindowCenterWidthExplanation="BONE",
    )
    shared.CTImageFrameTypeSequence = _item(FrameType=kind, **_VOLUME)
    shared.IrradiationEventIdentificationSequence = _item(IrradiationEventUID=identifiers[1])
    if origin == "ORIGINAL":
        _measured(shared, about, tilt, spacing)
    one.SharedFunctionalGroupsSequence = DicomSequence([shared])
    half = 0.5 * (np.array([one.Rows, one.Columns]) - 1)
    frames = []
    for k in range(count):
        position = affine[:3, 3] + affine[:3, 0] * k
        frame = Dataset()
        frame.PlanePositionSequence = _item(ImagePositionPatient=[_short(float(v)) for v in position])
        frame.FrameContentSequence = _item(
            StackID="1",
            InStackPositionNumber=k + 1,
            DimensionIndexValues=[1, k + 1],
            FrameAcquisitionNumber=1,
            FrameReferenceDateTime=started,
            FrameAcquisitionDateTime=started,
            FrameAcquisitionDuration=500.0,
        )
        if origin == "ORIGINAL":
            middle = [float(v) for v in position + row_step * half[0] + column_step * half[1]]
            frame.CTPositionSequence = _item(
                TablePosition=float(position[2]),
                DataCollectionCenterPatient=middle,
                ReconstructionTargetCenterPatient=middle,
            )
        frames.append(frame)
    one.PerFrameFunctionalGroupsSequence = DicomSequence(frames)


_VOLUME = {
    "PixelPresentation": "MONOCHROME",
    "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "NONE",
}


def _image(one: Dataset, started: str) -> None:
    """Enhanced CT Image (C.8.15.2) and Acquisition Context."""
    one.AcquisitionDateTime = started
    one.AcquisitionDuration = 5000.0
    one.ContentQualification = "RESEARCH"
    for keyword, value in _VOLUME.items():
        setattr(one, keyword, value)
    one.BurnedInAnnotation = "NO"
    one.LossyImageCompression = "00"
    one.PresentationLUTShape = "IDENTITY"
    one.AcquisitionContextSequence = DicomSequence([])


def _measured(shared: Dataset, about: CtHeader, tilt: float, spacing: list[float]) -> None:
    """Functional groups of images that were measured (C.8.15.3), the same for all frames."""
    shared.CTAcquisitionTypeSequence = _item(
        AcquisitionType="SPIRAL", ConstantVolumeFlag="NO", FluoroscopyFlag="NO"
    )
    shared.CTAcquisitionDetailsSequence = _item(
        RotationDirection="CW",
        RevolutionTime=0.5,
        SingleCollimationWidth=0.6,
        TotalCollimationWidth=38.4,
        TableHeight=150.0,
        GantryDetectorTilt=str(tilt),
        DataCollectionDiameter="500",
    )
    shared.CTTableDynamicsSequence = _item(TableSpeed=46.1, TableFeedPerRotation=23.04, SpiralPitchFactor=0.6)
    shared.CTGeometrySequence = _item(
        DistanceSourceToDetector="1040", DistanceSourceToDataCollectionCenter=570.0
    )
    sharp = about.window[1] > 1000
    shared.CTReconstructionSequence = _item(
        ReconstructionAlgorithm="FILTER_BACK_PROJ",
        ConvolutionKernel=about.kernel,
        ConvolutionKernelGroup="BONE" if sharp else "SOFT_TISSUE",
        ReconstructionDiameter="500",
        ReconstructionPixelSpacing=spacing,
        ReconstructionAngle=360.0,
        ImageFilter="NONE",
    )
    shared.CTExposureSequence = _item(
        ExposureTimeInms=500.0,
        XRayTubeCurrentInmA=float(about.tube_current_ma),
        ExposureInmAs=0.5 * about.tube_current_ma,
        ExposureModulationType="NONE",
        CTDIvol=9.5,
        CTDIPhantomTypeCodeSequence=_item(
            CodeValue="113691", CodingSchemeDesignator="DCM", CodeMeaning="IEC Body Dosimetry Phantom"
        ),
    )
    shared.CTXRayDetailsSequence = _item(
        KVP=_short(about.kvp), FocalSpots=1.2, FilterType="FLAT", FilterMaterial="ALUMINUM"
    )


def _dimensions(one: Dataset, organization: str) -> None:
    """Multi-frame Dimension (C.7.6.17): stack, and place in the stack."""
    one.DimensionOrganizationSequence = _item(DimensionOrganizationUID=organization)
    pointers = []
    for keyword in ("StackID", "InStackPositionNumber"):
        pointer = Dataset()
        pointer.DimensionOrganizationUID = organization
        pointer.DimensionIndexPointer = Tag(keyword)
        pointer.FunctionalGroupPointer = Tag("FrameContentSequence")
        pointers.append(pointer)
    one.DimensionIndexSequence = DicomSequence(pointers)


def _item(**values: object) -> DicomSequence:
    one = Dataset()
    for keyword, value in values.items():
        setattr(one, keyword, value)
    return DicomSequence([one])


def _short(value: float) -> str:
    # A decimal string has at most 16 characters.
    return f"{round(float(value), 9) + 0.0:.10g}"
