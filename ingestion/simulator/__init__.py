"""The network simulator: heads with MS, the scanners that see them, and the tables that come with them.

Nothing of the pipeline imports it, and nothing here judges what it makes.
"""

from ingestion.simulator.make import simulate

__all__ = ["simulate"]
