"""The one exception for what a user can mend: bad names, bad values, bad files."""

from __future__ import annotations


class InputError(ValueError):
    """A request that cannot be carried out as it stands; the message is one line naming the thing and the fix."""
