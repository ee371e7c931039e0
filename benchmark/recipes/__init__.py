"""Published experiments as TOML files, and their reader."""
