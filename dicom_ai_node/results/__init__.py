"""An analysis as standard DICOM objects: segmentation, structured report, presentation state, reformat."""
