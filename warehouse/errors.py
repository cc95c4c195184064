"""Errors that carry one sentence for a person: what is wrong and what to do.

Library code raises these; only the command line turns them into an exit code.
"""


class RanvierError(Exception):
    """Something a person must act on. Its text is one sentence without identifiers."""


class HomeError(RanvierError):
    """The home folder or its network.yaml cannot be used."""


class DictionaryError(RanvierError):
    """The dictionary, a rule or a policy contradicts itself."""


class DeliveryError(RanvierError):
    """A delivery as a whole cannot be read."""


class ReleaseError(RanvierError):
    """A release cannot be built, found or published."""


class QueryRefused(RanvierError):
    """A query asks for something its tier does not allow."""


class AccessError(RanvierError):
    """A person, a grant or a token cannot be made, found or accepted."""


class QueryBusy(RanvierError):
    """The gateway has no room for a query now; `retry_seconds` says when to come back."""

    def __init__(self, text: str, *, retry_seconds: int) -> None:
        super().__init__(text)
        self.retry_seconds = retry_seconds


class MirrorError(RanvierError):
    """The PostgreSQL mirror cannot be reached, set up, filled or compared."""
