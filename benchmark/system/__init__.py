"""The machine and the operating system: files, locks, signals, network, environment, progress."""
