"""A DICOM node that reads spines: radiograph, CT and MRI in, standard result objects out. Research use."""

__version__ = "0.1.0"
