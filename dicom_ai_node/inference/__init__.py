"""Running trained networks: bundles, devices, and one function per network."""
