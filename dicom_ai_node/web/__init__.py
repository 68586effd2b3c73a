"""The node's HTTP interface, version 1: images in, states and results out, events, DICOMweb.

`server` listens, `app` puts the rest together: `authentication`, `submission`, `state`. It decides nothing
about a series; intake and workflow do.
"""
