"""The dictionary and the tiers in the formats of others.

Here: the REDCap data dictionary, the Frictionless data package, the CDISC archive of OPTIMISE:MS and BIDS participants,
and the layouts they need as YAML. Not here: reading any of them (`ingestion.registry`). Rows come through the gateway,
so an export shows what its tier shows, and is in the audit log.
"""
