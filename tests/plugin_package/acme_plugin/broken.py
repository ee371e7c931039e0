"""A method whose package lacks a dependency."""

import acme_missing_dependency  # type: ignore[import-not-found]  # noqa: F401
