"""The `site` job: what a site sent, from landing to acceptance, one partition per site.

Here: its assets, checks, sensors and job. Not here: the release, which is a job of its own so that one site can
neither stop nor repeat it.
"""
