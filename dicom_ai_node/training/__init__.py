"""Training as published: data sets, augmentation, losses, loops, metrics; torch and the phantom only."""
