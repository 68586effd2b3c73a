"""The published architectures; they know torch and nothing else of the house."""
