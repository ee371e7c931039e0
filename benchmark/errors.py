"""The one exception for what a user can mend: bad names, bad values, bad files."""

from __future__ import annotations


class InputError(ValueError):
    """A request that cannot be carried out as it stands; the message is one line naming the thing and the fix."""


class DoesNotApply(InputError):
    """A request whose parts are right each and do not go together, as a method and a protocol; the message says why."""


class UnusablePlugIn(DoesNotApply):
    """A request for another package's plug-in that cannot be loaded, or whose name is taken; the message says which."""
