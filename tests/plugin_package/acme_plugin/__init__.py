"""A third-party package: one plug-in of each kind, and one that cannot be loaded."""
