"""A package of another: one of everything, and one that is broken."""
