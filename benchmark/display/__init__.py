"""What the terminal shows: progress bars, tables, and the live table of a sweep."""
