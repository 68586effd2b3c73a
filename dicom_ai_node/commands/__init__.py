"""One module per command of `dicom-ai-node`."""
