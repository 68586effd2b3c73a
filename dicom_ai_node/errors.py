"""The one tree of errors, split by what the caller can do about them.

NodeError
├── ConfigurationError         the administrator must change node.toml
├── InputError                 this input cannot be used; the sender must change it
│   ├── UnreadableInstance         not DICOM, truncated, or not decodable
│   ├── InconsistentGeometry       slices that do not form one volume
│   └── NotAnalysable              readable, but no statement can be made (becomes a report, not a failure)
├── TransientError             try again later (network, archive busy, out of memory on the device)
├── ModelError                 a bundle is missing, changed or does not fit
└── EncodingError              a result object would not be valid; it is not sent

A message names the thing, the place and the way out.
"""

from __future__ import annotations


class NodeError(Exception):
    """Anything this package raises on purpose."""


class ConfigurationError(NodeError):
    """A setting is wrong; the message names it as it stands in node.toml."""


class InputError(NodeError):
    """An input cannot be used as it is; the message names the file and the tag."""


class UnreadableInstance(InputError):
    """A file is no DICOM instance, is truncated, or cannot be decoded."""


class InconsistentGeometry(InputError):
    """The slices of a series do not form one volume."""


class NotAnalysable(InputError):
    """The input can be read, but no statement can be made about it.

    Args:
        code: one of `report.REASON_CODES`.
        text: the sentence that the report carries.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class TransientError(NodeError):
    """The same call may go through later."""


class ModelError(NodeError):
    """A model bundle is missing, was changed, or does not fit the code."""


class EncodingError(NodeError):
    """A result object breaks its IOD; it is kept back and the study fails loudly."""
