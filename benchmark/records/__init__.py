"""Records on disk: the store, the schema of a record, the label of a run."""
