"""The PostgreSQL mirror: each tier file of a release as a database of its own on a server that the network runs.

Here: setting a server up, users' roles, loading and swapping a release, comparing it, watching what is asked. Not here:
what a tier holds (`warehouse.policy`), who may see it (`warehouse.users`), the commands (`ranvier mirror`).

The server's address, the administrator's name and the password come from libpq's own variables and files (PGHOST,
PGPORT, PGUSER, PGPASSWORD or PGPASSFILE, PGSSLMODE, PGSSLROOTCERT), which psycopg and DuckDB both read: no code here
holds a secret.
"""
