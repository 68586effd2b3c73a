"""Every coded concept that a result object carries, each with its source.

Standard codes come first: DICOM (PS3.16 annex D), SNOMED CT, UCUM, LOINC, UMLS, as listed in the context
groups (CID) and templates (TID) of PS3.16. `PRIVATE_CONCEPTS` is what no standard scheme in PS3.16 has;
an object that uses one declares the scheme (`private_scheme_declaration`).
"""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset

from dicom_ai_node.anatomy import PRIVATE_CODING_SCHEME, Code
from dicom_ai_node.results.identity import PRIVATE_CODING_SCHEME_UID

__all__ = ["Code"]


def _dcm(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


def _sct(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


# Segmentation
ANATOMICAL_STRUCTURE: Final = _sct("91723000", "Anatomical Structure")
"""CID 7150 Segmentation Property Category."""
VERTEBRAL_BODY: Final = _sct("3572006", "Structure of body of vertebra")
"""SNOMED CT body structure; CID 7151, which is extensible, goes no further than the vertebra."""
BACKGROUND: Final = _dcm("125040", "Background")
"""CID 7150 and 7151: what the pixels of no segment are in a label map."""
ARTIFICIAL_INTELLIGENCE: Final = _dcm("123110", "Artificial Intelligence")
"""CID 7162 Surface Processing Algorithm Family."""

# References between instances
SOURCE_IMAGE_FOR_PROCESSING: Final = _dcm("121322", "Source image for image processing operation")
"""CID 7202 Source Image Purpose of Reference."""
SEGMENTATION_DERIVATION: Final = _dcm("113076", "Segmentation")
"""CID 7203 Image Derivation."""
SPATIAL_RESAMPLING: Final = _dcm("113085", "Spatial resampling")
"""CID 7203 Image Derivation."""
MULTIPLANAR_REFORMATTING: Final = _dcm("113072", "Multiplanar reformatting")
"""CID 7203 Image Derivation."""
CURVED_MULTIPLANAR_REFORMATTING: Final = _dcm("113073", "Curved multiplanar reformatting")
"""CID 7203 Image Derivation."""
PROCESSING_EQUIPMENT: Final = _dcm("109102", "Processing Equipment")
"""CID 7005 Contributing Equipment Purpose of Reference; asked for by IHE AI Results."""
SOURCE: Final = _sct("260753009", "Source")
"""TID 1600 Image Library, name of an image entry as readers expect it."""

# Document (TID 1500 and what it includes)
IMAGING_MEASUREMENT_REPORT: Final = _dcm("126000", "Imaging Measurement Report")
"""CID 7021 Measurement Report Document Title."""
LANGUAGE: Final = _dcm("121049", "Language of Content Item and Descendants")
"""TID 1204."""
OBSERVER_TYPE: Final = _dcm("121005", "Observer Type")
"""TID 1002."""
DEVICE: Final = _dcm("121007", "Device")
"""CID 270 Observer Type."""
DEVICE_OBSERVER_UID: Final = _dcm("121012", "Device Observer UID")
"""TID 1004."""
DEVICE_OBSERVER_NAME: Final = _dcm("121013", "Device Observer Name")
"""TID 1004."""
DEVICE_OBSERVER_MANUFACTURER: Final = _dcm("121014", "Device Observer Manufacturer")
"""TID 1004."""
DEVICE_OBSERVER_MODEL: Final = _dcm("121015", "Device Observer Model Name")
"""TID 1004."""
DEVICE_OBSERVER_SERIAL: Final = _dcm("121016", "Device Observer Serial Number")
"""TID 1004."""
PROCEDURE_REPORTED: Final = _dcm("121058", "Procedure reported")
"""TID 1500 row 4."""
PROCEDURES: Final[dict[str, Code]] = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "CR": Code("43468-8", "LN", "XR unspecified body region"),
    "DX": Code("43468-8", "LN", "XR unspecified body region"),
}
"""CID 100 Quantitative Diagnostic Imaging Procedure, for sources without a Procedure Code Sequence."""
IMAGING_PROCEDURE: Final = _sct("363679005", "Imaging procedure")
"""CID 100, for any other modality."""
IMPRESSIONS: Final = _dcm("121072", "Impressions")
"""CID 7001 Diagnostic Imaging Report Heading."""
IMPRESSION: Final = _dcm("121073", "Impression")
"""CID 7002 Diagnostic Imaging Report Element."""
PREVIOUS_FINDINGS: Final = Code("18834-2", "LN", "Previous Findings")
"""CID 7001."""
PREVIOUS_FINDING: Final = _dcm("121069", "Previous Finding")
"""CID 7002."""
PRIOR_REPORT: Final = _dcm("122075", "Prior report for current patient")
"""CID 3407."""
STUDY_DATE: Final = _dcm("111060", "Study Date")
"""PS3.16 annex D."""
QUALITATIVE_EVALUATIONS: Final = Code("C0034375", "UMLS", "Qualitative Evaluations")
"""TID 1500 row 12."""
IMAGING_MEASUREMENTS: Final = _dcm("126010", "Imaging Measurements")
"""TID 1500 row 6."""
MEASUREMENT_GROUP: Final = _dcm("125007", "Measurement Group")
"""TID 1410, 1411 and 1501 row 1."""
PROCESSING_SUMMARY: Final = _dcm("111017", "CAD Processing and Findings Summary")
"""TID 4001 row 2; its values are CID 6047."""
ALL_SUCCEEDED_WITHOUT_FINDINGS: Final = _dcm("111241", "All algorithms succeeded; without findings")
"""CID 6047 CAD Processing and Findings Summary."""
ALL_SUCCEEDED_WITH_FINDINGS: Final = _dcm("111242", "All algorithms succeeded; with findings")
"""CID 6047."""
NOT_ALL_SUCCEEDED_WITHOUT_FINDINGS: Final = _dcm("111243", "Not all algorithms succeeded; without findings")
"""CID 6047."""
NOT_ALL_SUCCEEDED_WITH_FINDINGS: Final = _dcm("111244", "Not all algorithms succeeded; with findings")
"""CID 6047."""
NONE_SUCCEEDED: Final = _dcm("111245", "No algorithms succeeded; without findings")
"""CID 6047."""
COMMENT: Final = _dcm("121106", "Comment")
"""PS3.16 annex D."""

# Image library (TID 1600, 1602, 1604)
IMAGE_LIBRARY: Final = _dcm("111028", "Image Library")
IMAGE_LIBRARY_GROUP: Final = _dcm("126200", "Image Library Group")
MODALITY: Final = _dcm("121139", "Modality")
TARGET_REGION: Final = _dcm("123014", "Target Region")
"""TID 1602."""
SPINE: Final = _sct("421060004", "Spine")
"""CID 4031 Common Anatomic Region."""
FRAME_OF_REFERENCE_UID: Final = _dcm("112227", "Frame of Reference UID")
PIXEL_DATA_ROWS: Final = _dcm("110910", "Pixel Data Rows")
PIXEL_DATA_COLUMNS: Final = _dcm("110911", "Pixel Data Columns")
HORIZONTAL_PIXEL_SPACING: Final = _dcm("111026", "Horizontal Pixel Spacing")
VERTICAL_PIXEL_SPACING: Final = _dcm("111066", "Vertical Pixel Spacing")
PATIENT_ORIENTATION_ROW: Final = _dcm("111044", "Patient Orientation Row")
"""TID 1603."""
PATIENT_ORIENTATION_COLUMN: Final = _dcm("111043", "Patient Orientation Column")
"""TID 1603."""
MODALITIES: Final[dict[str, Code]] = {
    "CT": _dcm("CT", "Computed Tomography"),
    "MR": _dcm("MR", "Magnetic Resonance"),
    "CR": _dcm("CR", "Computed Radiography"),
    "DX": _dcm("DX", "Digital Radiography"),
}
"""CID 29 Acquisition Modality."""

# Measurement group (TID 1410, 1411, 1501)
TRACKING_IDENTIFIER: Final = _dcm("112039", "Tracking Identifier")
TRACKING_UID: Final = _dcm("112040", "Tracking Unique Identifier")
FINDING: Final = _dcm("121071", "Finding")
FINDING_SITE: Final = _sct("363698007", "Finding Site")
TOPOGRAPHICAL_MODIFIER: Final = _sct("106233006", "Topographical modifier")
"""TID 300 row 6 and CID 210."""
LATERALITY: Final = _sct("272741003", "Laterality")
"""TID 300 row 5."""
LATERALITIES: Final[dict[str, Code]] = {
    "RIGHT": _sct("24028007", "Right"),
    "LEFT": _sct("7771000", "Left"),
}
"""CID 244 Laterality."""
IMAGE_REGION: Final = _dcm("111030", "Image Region")
REFERENCED_SEGMENT: Final = _dcm("121191", "Referenced Segment")
REFERENCED_SEGMENTATION_FRAME: Final = _dcm("121214", "Referenced Segmentation Frame")
"""TID 1410: a region that is one frame of a segmentation."""
SOURCE_IMAGE_FOR_SEGMENTATION: Final = _dcm("121233", "Source image for segmentation")
"""TID 1410."""
SOURCE_OF_MEASUREMENT: Final = _dcm("121112", "Source of Measurement")
"""CID 7551, TID 320: the coordinates that a number was measured with."""
SOURCE_SERIES_FOR_SEGMENTATION: Final = _dcm("121232", "Source series for segmentation")
ALGORITHM_NAME: Final = _dcm("111001", "Algorithm Name")
"""TID 4019."""
ALGORITHM_VERSION: Final = _dcm("111003", "Algorithm Version")
"""TID 4019."""
ALGORITHM_PARAMETERS: Final = _dcm("111002", "Algorithm Parameters")
"""TID 4019."""
ALGORITHM_FAMILY: Final = _dcm("111000", "Algorithm Family")
"""TID 4019."""
DERIVATION: Final = _dcm("121401", "Derivation")
"""TID 1419."""
ATTENUATION_COEFFICIENT: Final = _dcm("112031", "Attenuation Coefficient")
"""CID 7469 Generic Intensity and Size Measurement."""
MEAN: Final = _sct("373098007", "Mean")
"""CID 7464 General Region of Interest Measurement Modifier."""
SEVERITY: Final = _sct("246112005", "Severity")
"""PS3.16 annex D (SNOMED CT attribute)."""
MILD: Final = _sct("255604002", "Mild")
"""CID 3716 Severity."""
MODERATE: Final = _sct("6736007", "Moderate")
"""CID 3716."""
SEVERE: Final = _sct("24484000", "Severe")
"""CID 3716."""
NORMAL: Final = _sct("17621005", "Normal")
"""CID 242 Normality Codes."""
COMPRESSION_FRACTURE: Final = _sct("42942008", "Compression fracture of vertebral column")
"""SNOMED CT disorder; the level is the finding site. PS3.16 lists no fracture of a vertebra."""
ACUTE: Final = _sct("373933003", "Acute onset")
"""SNOMED CT qualifier value of the clinical course of a disorder."""
CHRONIC: Final = _sct("90734009", "Chronic")
"""CID 6130."""
PATHOLOGICAL_FRACTURE: Final = _sct("268029009", "Pathological fracture")
"""SNOMED CT disorder. PS3.16 lists no kind of fracture of bone."""
OSTEOPOROTIC_FRACTURE: Final = _sct("443165006", "Osteoporotic fracture of bone")
"""SNOMED CT disorder, as in NHS England's code list of fragility fractures; the level is the site."""
SCHMORL_NODES: Final = Code("M51.4", "I10", "Schmorl nodes")
"""ICD-10. PS3.16 lists no herniation of a disc into a vertebra."""
POST_SURGICAL: Final = _sct("245849007", "Post-surgical anatomy")
"""CID 9272."""
ABNORMAL: Final = _sct("263654008", "Abnormal")
"""CID 242."""
NORMALITY_UNDETERMINED: Final = _sct("371934000", "Normality Undetermined")
"""CID 242."""
BENIGN: Final = _sct("30807003", "Benign")
"""CID 6063 Perceived Malignancy."""
MALIGNANT: Final = _sct("21594007", "Malignant")
"""CID 6063."""
ANTERIOR: Final = _sct("255549009", "Anterior")
"""CID 2 Anatomic Modifier."""
MIDDLE: Final = Code("C25569", "NCIt", "Middle")
"""CID 211 and 212."""
POSTERIOR: Final = _sct("255551008", "Posterior")
"""CID 2 Anatomic Modifier."""

# Units (UCUM; PS3.16 CID 7181 and 82)
MILLIMETRE: Final = Code("mm", "UCUM", "mm")
PERCENT: Final = Code("%", "UCUM", "%")
HOUNSFIELD: Final = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
PIXELS: Final = Code("{pixels}", "UCUM", "pixels")
RATIO: Final = Code("{ratio}", "UCUM", "ratio")
"""CID 7465."""


# What PS3.16 has no code for. The value is at most 16 characters (SH), the meaning at most 64 (LO).
def _private(value: str, meaning: str) -> Code:
    code = Code(value, PRIVATE_CODING_SCHEME, meaning)
    PRIVATE_CONCEPTS.append(code)
    return code


PRIVATE_CONCEPTS: Final[list[Code]] = []
"""All private concepts."""

# DICOM's (121207, DCM, "Height") with a topographical modifier says the same, but readers that show a
# measurement's name without its modifiers would list three equal names. The modifiers are given as well.
ANTERIOR_HEIGHT: Final = _private("HEIGHT-ANTERIOR", "Anterior vertebral body height")
MIDDLE_HEIGHT: Final = _private("HEIGHT-MIDDLE", "Middle vertebral body height")
POSTERIOR_HEIGHT: Final = _private("HEIGHT-POSTERIOR", "Posterior vertebral body height")
REFERENCE_HEIGHT: Final = _private("HEIGHT-REFERENCE", "Reference height for vertebral height loss")
HEIGHT_LOSS: Final = _private("HEIGHT-LOSS", "Vertebral body height loss")
HEIGHT_LOSS_CHANGE: Final = _private("HEIGHT-LOSS-DIFF", "Vertebral body height loss now minus before")
_PLANES: Final[dict[str, str]] = {
    "RIGHT": "right of the middle",
    "MID": "middle plane",
    "LEFT": "left of the middle",
}
PLANE_HEIGHTS: Final[dict[tuple[str, str], Code]] = {
    (plane, part): _private(
        f"HEIGHT-{part[:3].upper()}-{plane}", f"{part.capitalize()} vertebral body height, {words}"
    )
    for plane, words in _PLANES.items()
    for part in ("anterior", "middle", "posterior")
}
"""Heights in one sagittal plane of a body, by the plane and the part, where several were measured."""
PLANE_LOSSES: Final[dict[str, Code]] = {
    plane: _private(f"LOSS-{plane}", f"Vertebral body height loss, {words}")
    for plane, words in _PLANES.items()
}
"""What was lost in one sagittal plane of a body alone."""
FRACTURE_PROBABILITY: Final = _private("FRACTURE-PROB", "Probability of vertebral fracture")
LEVEL_CONFIDENCE: Final = _private("LEVEL-CONF", "Confidence of vertebral level")
GENANT_GRADE: Final = _private("GENANT", "Genant semiquantitative grade")
GENANT_GRADES: Final[tuple[Code, ...]] = (
    _private("GENANT-0", "Genant grade 0 (normal)"),
    _private("GENANT-1", "Genant grade 1 (mild)"),
    _private("GENANT-2", "Genant grade 2 (moderate)"),
    _private("GENANT-3", "Genant grade 3 (severe)"),
)
SEVERITIES: Final[tuple[Code | None, ...]] = (None, MILD, MODERATE, SEVERE)
"""The severity that goes with each Genant grade."""
ACUITY: Final = _private("ACUITY", "Acuity or cause of vertebral fracture")
ACUITIES: Final[dict[str, tuple[Code, Code]]] = {
    "acute": (_private("PROB-ACUTE", "Probability of acute vertebral fracture"), ACUTE),
    "chronic": (_private("PROB-CHRONIC", "Probability of chronic vertebral fracture"), CHRONIC),
    "pathologic": (
        _private("PROB-PATHOLOGIC", "Probability of pathological vertebral fracture"),
        PATHOLOGICAL_FRACTURE,
    ),
}
"""The classes of P1: how the probability is named, and what is probable."""
MALIGNANCY: Final = _private("MALIGNANCY", "Benign or malignant vertebra")
MALIGNANCIES: Final[dict[str, Code]] = {
    "benign": _private("PROB-BENIGN", "Probability of benign vertebra"),
    "malignant": _private("PROB-MALIGNANT", "Probability of malignant vertebra"),
}
"""The classes of P4."""
MR_FEATURES: Final[dict[str, Code]] = {
    "absence_of_collapse": _private("F-NO-COLLAPSE", "Probability: no collapse"),
    "anterior_wedge": _private("F-WEDGE", "Probability: anterior wedging"),
    "whole_body_compression": _private("F-COMPRESSION", "Probability: compression of the whole body"),
    "central_concavity": _private("F-CONCAVITY", "Probability: central concavity of an endplate"),
    "homogeneous_marrow": _private("F-HOMOGENEOUS", "Probability: homogeneous marrow"),
    "dark_line": _private("F-DARK-LINE", "Probability: dark fracture line"),
    "band_oedema": _private("F-BAND", "Probability: band of marrow oedema"),
    "dark_patch": _private("F-DARK-PATCH", "Probability: dark patch"),
    "cleft": _private("F-CLEFT", "Probability: intravertebral cleft"),
    "diffuse_change": _private("F-DIFFUSE", "Probability: diffuse change of signal"),
    "mass": _private("F-MASS", "Probability: mass in the body"),
    "protrusion": _private("F-PROTRUSION", "Probability: convex posterior border"),
    "soft_tissue_mass": _private("F-SOFT-TISSUE", "Probability: soft tissue mass beside the body"),
    "posterior_elements": _private("F-POSTERIOR", "Probability: posterior elements involved"),
    "skip_lesion": _private("F-SKIP", "Probability: lesion of another vertebra"),
}
"""P4, table 1."""
SIGNALS: Final[dict[tuple[str, str], Code]] = {
    (series, against): _private(f"S-{series.upper()}-{short}", f"{name} signal over that of {words}")
    for series, name in (("t1", "T1"), ("t2", "T2"), ("stir", "STIR"), ("fat", "Dixon fat"))
    for against, short, words in (
        ("to_neighbours", "NEIGHB", "neighbouring bodies"),
        ("to_discs", "DISCS", "the discs at its endplates"),
        ("to_canal", "CANAL", "the spinal canal"),
        ("to_cord", "CORD", "the spinal cord"),
    )
}
"""Series and one of `report.SIGNAL_RATIOS`: signal of a body on MR in relation to what lies beside it."""
DISEASE: Final = _private("CT-DISEASE", "Disease of vertebra seen on sagittal CT slices")
DISEASES: Final[dict[str, tuple[Code, Code]]] = {
    "OVCF": (
        _private("PROB-OVCF", "Probability of osteoporotic compression fracture"),
        OSTEOPOROTIC_FRACTURE,
    ),
    "OF": (
        _private("PROB-OF", "Probability of old vertebral fracture"),
        _private("OLD-FRACTURE", "Old fracture of vertebra"),
    ),
    "SN": (_private("PROB-SN", "Probability of Schmorl's node"), SCHMORL_NODES),
    "KD": (
        _private("PROB-KD", "Probability of Kuemmell's disease"),
        _private("KUEMMELL", "Kuemmell's disease (avascular necrosis of vertebral body)"),
    ),
    "PS": (_private("PROB-PS", "Probability of previous surgery of vertebra"), POST_SURGICAL),
    "normal": (_private("PROB-NO-DISEASE", "Probability of no disease of vertebra on CT slices"), NORMAL),
}
"""The classes of P2: how the probability is named, and what is probable."""
THRESHOLDS: Final[tuple[Code, ...]] = (
    _private("CUT-GENANT-1", "Height loss from which on Genant grade 1"),
    _private("CUT-GENANT-2", "Height loss above which Genant grade 2"),
    _private("CUT-GENANT-3", "Height loss above which Genant grade 3"),
)
"""The thresholds of grades 1 to 3."""
MALIGNANT_THRESHOLD: Final = _private("CUT-MALIGNANT", "Probability from which on called malignant")
DEFORMITY: Final = _private("DEFORMITY", "Vertebral deformity type")
DEFORMITIES: Final[dict[str, Code]] = {
    "wedge": _private("DEF-WEDGE", "Wedge deformity"),
    "biconcave": _private("DEF-BICONCAVE", "Biconcave deformity"),
    "crush": _private("DEF-CRUSH", "Crush deformity"),
    "none": _private("DEF-NONE", "No deformity"),
}
ANALYSABILITY: Final = _private("ANALYSABILITY", "Analysability")
ANALYSED: Final = _private("ANALYSED", "Analysed")
NOT_ANALYSABLE: Final = _private("NOT-ANALYSABLE", "Not analysable")
REASON: Final = _private("REASON", "Reason or limitation")
REASONS: Final[dict[str, Code]] = {
    "coverage": _private("R-COVERAGE", "Too little of the spine in the field of view"),
    "spacing": _private("R-SPACING", "Slices too thick or too few"),
    "implants": _private("R-IMPLANTS", "Metal or cement"),
    "orientation": _private("R-ORIENTATION", "Spine not shown in a usable plane"),
    "modality-mismatch": _private("R-MODALITY", "Image is not what its header says"),
    "geometry": _private("R-GEOMETRY", "Slices do not form one volume"),
    "unreadable": _private("R-UNREADABLE", "Pixel data cannot be decoded"),
    "no-spine": _private("R-NO-SPINE", "No vertebra found"),
    "model-refused": _private("R-MODEL", "Implausible answer of the model"),
    "level-uncertain": _private("R-LEVEL", "Vertebral level uncertain"),
    "numbering-variant": _private("R-VARIANT", "Vertebra more or less than usual"),
    "partial": _private("R-PARTIAL", "Only part of what was sent could be used"),
    "further-films": _private("R-FURTHER-FILMS", "Other films of the series have their own report"),
    "disagreement": _private("R-DISAGREEMENT", "Two opinions differ"),
    "research-use": _private("R-RESEARCH-USE", "For research use only"),
    "thresholds": _private("R-THRESHOLDS", "Thresholds applied"),
    "usual-shape": _private("R-USUAL", "Height loss usual in this spine, not counted as fracture"),
    "patient-mismatch": _private("R-PATIENT", "Images of different patients in one study"),
    "registration": _private("R-REGISTRATION", "Two series could not be registered"),
    "prior": _private("R-PRIOR", "Earlier reports not compared with"),
}
"""One code for every key of `report.REASON_CODES`."""


def item(code: Code) -> Dataset:
    """The code as an item of a code sequence (PS3.3 section 8.8)."""
    dataset = Dataset()
    dataset.CodeValue = code.value
    dataset.CodingSchemeDesignator = code.scheme
    dataset.CodeMeaning = code.meaning
    return dataset


def private_scheme_declaration() -> Dataset:
    """An item of Coding Scheme Identification Sequence for the private scheme (PS3.3 table C.12-1)."""
    dataset = Dataset()
    dataset.CodingSchemeDesignator = PRIVATE_CODING_SCHEME
    dataset.CodingSchemeUID = PRIVATE_CODING_SCHEME_UID
    dataset.CodingSchemeName = "dicom-ai-node concepts that no standard scheme has"
    dataset.CodingSchemeResponsibleOrganization = "dicom-ai-node project"
    return dataset
