"""Registry tables as they arrive: a site's CSV and XLSX files become rows of the dictionary, or refusals with a reason.

Here: bytes to cells (`grids`), cells to an entity (`match`), to values (`values`), to rows (`convert`), all of it for
one delivery (`read`). Not here: what a site calls things (`ingestion.profile`), or whether a value is right
(`qa.variables`).
"""

from ingestion.registry.model import RegistryFate, RegistryFile, RegistryResult
from ingestion.registry.read import is_candidate, read_registry

__all__ = ["RegistryFate", "RegistryFile", "RegistryResult", "is_candidate", "read_registry"]
