"""`dicom-ai-node serve` with the steps of `fast_steps`: python fast_node.py node.toml."""

import sys
from pathlib import Path

from dicom_ai_node.commands.serve import serve
from dicom_ai_node.config import load_settings
from dicom_ai_node.log import configure_logging

if __name__ == "__main__":
    configure_logging(as_json=True)
    serve(load_settings(Path(sys.argv[1])), "fast_steps:fast_steps")
