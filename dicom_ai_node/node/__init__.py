"""The network face of the node: it receives into the spool and knows nothing of what becomes of a series."""
