"""`node.toml` -> typed settings: every section, every default, and errors that name the key.

`deploy/node.toml` explains every setting and holds the same defaults. Settings are frozen; relative paths
are relative to the folder of the file that names them. One environment variable outranks the file:
`DICOM_AI_NODE_MODELS` replaces `[models] models_dir`.
"""

from dicom_ai_node.config.analysis import ModelSettings, WorkflowSettings
from dicom_ai_node.config.archives import DicomwebServer, PriorSettings, QuerySettings
from dicom_ai_node.config.destinations import AnyDestination, Delivery, Destination, DicomwebDestination
from dicom_ai_node.config.http import HttpSettings
from dicom_ai_node.config.node import NodeSettings, SecuritySettings, Sender
from dicom_ai_node.config.reading import MODELS_VARIABLE, load_settings, settings_from
from dicom_ai_node.config.results import ResultSettings
from dicom_ai_node.config.routes import CtRoute, MriRoute, Orientation, OtherRoute, RadiographRoute, Routes
from dicom_ai_node.config.section import Section
from dicom_ai_node.config.settings import Settings
from dicom_ai_node.config.storage import StorageSettings

__all__ = [
    "MODELS_VARIABLE",
    "AnyDestination",
    "CtRoute",
    "Delivery",
    "Destination",
    "DicomwebDestination",
    "DicomwebServer",
    "HttpSettings",
    "ModelSettings",
    "MriRoute",
    "NodeSettings",
    "Orientation",
    "OtherRoute",
    "PriorSettings",
    "QuerySettings",
    "RadiographRoute",
    "ResultSettings",
    "Routes",
    "Section",
    "SecuritySettings",
    "Sender",
    "Settings",
    "StorageSettings",
    "WorkflowSettings",
    "load_settings",
    "settings_from",
]
