"""DICOM files to arrays with geometry, and arrays with geometry to pictures and back to DICOM."""
