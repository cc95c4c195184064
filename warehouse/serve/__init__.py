"""The warehouse over HTTP: SQL on a tier, definitions, releases, and one page to try them on.

Here: requests, tokens on their way in, limits, formats, the page. Not here: who holds which grant (`warehouse.users`),
answering a query (`warehouse.gateway`), starting the server (`orchestration.commands.serve`). It needs the `centre`
extra; nothing else of the warehouse imports it.
"""
