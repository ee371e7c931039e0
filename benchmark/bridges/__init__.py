"""To other libraries and back. Each is imported when something of it is used, and not before."""
