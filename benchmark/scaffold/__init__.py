"""The files of a new method's package."""
