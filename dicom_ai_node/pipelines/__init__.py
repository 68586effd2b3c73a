"""Images in, a report out: one module per pipeline, and the steps that they share."""
