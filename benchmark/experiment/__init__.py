"""From a request to a record: request, plan, run, measurement; also estimates and verification."""
