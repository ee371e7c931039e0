"""Templates of plug-in packages, and the function that fills them in."""
