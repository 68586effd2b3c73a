"""The phantom beside real images: contact sheets, distributions, distances and what it teaches."""
