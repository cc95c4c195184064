"""The warehouse: dictionary, lake layout, pseudonyms, releases, tiers, SQL gateway.

Nothing here reads a site's format or judges an image; nothing here imports `ingestion`, `qa` or `orchestration`.
"""
