"""One report per site: what arrived, what is wrong, what to do, and how the site compares.

Here: gathering the facts from the lake (`gather`), drawing (`charts`), putting the page together from declared sections
(`assemble`) and the mail that carries it (`mail`). Sections are data (`sections.yaml`), every word is in
`texts.en.yaml`. Not here: judging. A report never prints a subject, session, series or row key.
"""

from qa.reports.assemble import render_report
from qa.reports.mail import is_told, write_mail

__all__ = ["is_told", "render_report", "write_mail"]
