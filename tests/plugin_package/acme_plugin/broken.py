"""A method whose package lacks something."""

import acme_missing_dependency  # type: ignore[import-not-found]  # noqa: F401
