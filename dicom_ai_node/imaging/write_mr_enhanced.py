"""What an enhanced MR object holds beyond patient, study and series: functional groups (PS3.3 A.36)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag

if TYPE_CHECKING:
    from dicom_ai_node.imaging.write_mr import MrHeader

Affine = npt.NDArray[np.float64]


def enhanced_attributes(
    one: Dataset, pixels: npt.NDArray[np.uint16], affine: Affine, about: MrHeader, organization: str
) -> None:
    """Add what Enhanced MR asks for: image, pulse sequence, dimensions, functional groups."""
    # Imported here: write_mr imports this module's function in turn.
    from dicom_ai_node.imaging.write_mr import plane_geometry  # noqa: PLC0415

    spacing, orientation, distance = plane_geometry(affine)
    kind = ["ORIGINAL", "PRIMARY", "T1" if about.contrast == "T1" else "T2", "NONE"]
    one.ImageType = kind
    one.NumberOfFrames = len(pixels)
    if "Laterality" in one:
        # Each frame says it, in Frame Anatomy.
        del one.Laterality
    _enhanced_image(one, about)
    _pulse_sequence(one, about)
    _dimensions(one, organization)
    shared = Dataset()
    shared.PixelMeasuresSequence = _item(
        PixelSpacing=[_short(v) for v in spacing],
        SliceThickness=_short(about.slice_thickness_mm or distance),
        SpacingBetweenSlices=_short(distance),
    )
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=[_short(v) for v in orientation])
    shared.FrameAnatomySequence = _item(
        FrameLaterality="U",
        AnatomicRegionSequence=_code("421060004", "SCT", "Vertebral column"),
    )
    shared.PixelValueTransformationSequence = _item(RescaleIntercept=0, RescaleSlope=1, RescaleType="US")
    top = float(pixels.max())
    center, width = about.window or (0.4 * top, max(1.0, 0.8 * top))
    shared.FrameVOILUTSequence = _item(WindowCenter=_short(center), WindowWidth=_short(width))
    _mr_groups(shared, about, pixels.shape[1:])
    shared.MRImageFrameTypeSequence = _item(
        FrameType=kind,
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        ComplexImageComponent="MAGNITUDE",
        AcquisitionContrast=about.contrast,
    )
    one.SharedFunctionalGroupsSequence = DicomSequence([shared])
    frames = []
    started = one.AcquisitionDateTime
    del one.AcquisitionDate, one.AcquisitionTime
    for k in range(len(pixels)):
        frame = Dataset()
        position = affine[:3, 3] + affine[:3, 0] * k
        frame.PlanePositionSequence = _item(ImagePositionPatient=[_short(float(v)) for v in position])
        frame.FrameContentSequence = _item(
            StackID="1",
            InStackPositionNumber=k + 1,
            DimensionIndexValues=[1, k + 1],
            FrameAcquisitionNumber=1,
            FrameReferenceDateTime=started,
            FrameAcquisitionDateTime=started,
            FrameAcquisitionDuration=about.repetition_ms,
        )
        frames.append(frame)
    one.PerFrameFunctionalGroupsSequence = DicomSequence(frames)


def _enhanced_image(one: Dataset, about: MrHeader) -> None:
    """Enhanced MR Image (C.8.13.1)."""
    one.AcquisitionDateTime = f"{one.AcquisitionDate}{one.AcquisitionTime}"
    one.AcquisitionDuration = 180.0
    one.ContentQualification = "RESEARCH"
    one.ResonantNucleus = "1H"
    one.MagneticFieldStrength = about.field_t
    one.KSpaceFiltering = "NONE"
    one.ApplicableSafetyStandardAgency = "IEC"
    one.PixelPresentation = "MONOCHROME"
    one.VolumetricProperties = "VOLUME"
    one.VolumeBasedCalculationTechnique = "NONE"
    one.ComplexImageComponent = "MAGNITUDE"
    one.AcquisitionContrast = about.contrast
    one.BurnedInAnnotation = "NO"
    one.LossyImageCompression = "00"
    one.PresentationLUTShape = "IDENTITY"
    one.AcquisitionContextSequence = DicomSequence([])


def _pulse_sequence(one: Dataset, about: MrHeader) -> None:
    """MR Pulse Sequence (C.8.13.4)."""
    gradient = "GR" in about.scanning_sequence
    train = about.echo_train or 1
    one.PulseSequenceName = about.sequence_name or "tse"
    one.MRAcquisitionType = "2D"
    one.EchoPulseSequence = "GRADIENT" if gradient else "SPIN"
    if not gradient:
        one.MultipleSpinEcho = "YES" if train > 1 else "NO"
    one.MultiPlanarExcitation = "NO"
    one.PhaseContrast = "NO"
    one.TimeOfFlightContrast = "NO"
    one.SteadyStatePulseSequence = "NONE"
    one.EchoPlanarPulseSequence = "NO"
    one.SpectrallySelectedSuppression = "FAT" if about.fat_suppressed else "NONE"
    one.OversamplingPhase = "2D"
    one.GeometryOfKSpaceTraversal = "RECTILINEAR"
    one.SegmentedKSpaceTraversal = "SINGLE" if train < 2 else "PARTIAL"
    one.RectilinearPhaseEncodeReordering = "LINEAR"
    one.NumberOfKSpaceTrajectories = 1
    one.SaturationRecovery = "NO"


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


def _mr_groups(shared: Dataset, about: MrHeader, shape: tuple[int, ...]) -> None:
    """Functional groups of MR (C.8.13.5), the same for all frames."""
    rows, columns = about.matrix or (int(shape[0]), int(shape[1]))
    by_rows = about.phase_direction == "COL"
    shared.MRTimingAndRelatedParametersSequence = _item(
        RepetitionTime=_short(about.repetition_ms),
        FlipAngle=_short(about.flip_deg),
        EchoTrainLength=about.echo_train or 1,
        RFEchoTrainLength=0 if "GR" in about.scanning_sequence else about.echo_train or 1,
        GradientEchoTrainLength=1 if "GR" in about.scanning_sequence else 0,
        GradientOutputType="DB_DT",
        GradientOutput=20.0,
        SpecificAbsorptionRateSequence=_item(
            SpecificAbsorptionRateDefinition="IEC_WHOLE_BODY", SpecificAbsorptionRateValue=0.8
        ),
        OperatingModeSequence=_item(OperatingModeType="STATIC FIELD", OperatingMode="IEC_NORMAL"),
    )
    shared.MRFOVGeometrySequence = _item(
        InPlanePhaseEncodingDirection="COLUMN" if by_rows else "ROW",
        MRAcquisitionFrequencyEncodingSteps=columns if by_rows else rows,
        MRAcquisitionPhaseEncodingStepsInPlane=rows if by_rows else columns,
        PercentSampling=100,
        PercentPhaseFieldOfView=100,
    )
    shared.MREchoSequence = _item(EffectiveEchoTime=about.echo_ms)
    modifier = Dataset()
    modifier.InversionRecovery = "NO" if about.inversion_ms is None else "YES"
    if about.inversion_ms is not None:
        modifier.InversionTimes = [about.inversion_ms]
    modifier.FlowCompensation = "NONE"
    modifier.Spoiling = "RF_AND_GRADIENT" if "GR" in about.scanning_sequence else "GRADIENT"
    modifier.T2Preparation = "NO"
    modifier.SpectrallySelectedExcitation = "NONE"
    modifier.SpatialPresaturation = "NONE"
    modifier.PartialFourier = "NO"
    modifier.ParallelAcquisition = "NO"
    shared.MRModifierSequence = DicomSequence([modifier])
    shared.MRImagingModifierSequence = _item(
        MagnetizationTransfer="NONE",
        BloodSignalNulling="NO",
        Tagging="NONE",
        TransmitterFrequency=42.577 * about.field_t,
        PixelBandwidth=_short(about.bandwidth_hz),
    )
    shared.MRReceiveCoilSequence = _item(
        ReceiveCoilName="SPINE",
        ReceiveCoilManufacturerName="",
        ReceiveCoilType="SURFACE",
        QuadratureReceiveCoil="NO",
    )
    shared.MRTransmitCoilSequence = _item(
        TransmitCoilName="BODY", TransmitCoilManufacturerName="", TransmitCoilType="BODY"
    )
    shared.MRAveragesSequence = _item(NumberOfAverages=1)


def _item(**values: object) -> DicomSequence:
    one = Dataset()
    for keyword, value in values.items():
        setattr(one, keyword, value)
    return DicomSequence([one])


def _code(value: str, scheme: str, meaning: str) -> DicomSequence:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _short(value: float) -> str:
    # A decimal string has at most 16 characters.
    return f"{round(float(value), 9) + 0.0:.10g}"
