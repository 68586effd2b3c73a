"""The machine-run conformance suite, and the statement that it backs."""
