"""From a request to a record: planning, running, measuring, estimating, verifying."""
