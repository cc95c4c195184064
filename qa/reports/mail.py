"""The mail that carries a report to its site, as a file any mail program opens.

Here: the message. Not here: sending it; until a mail server is configured, mails wait in `outbox/`. The body
holds counts and rule texts only: no picture, no row or file number, nothing about one patient.
"""

from __future__ import annotations

import logging
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

from qa.findings import mark_notified
from qa.reports.assemble import environment, refuse_keys, render_report, report_folder, site_facts
from qa.reports.facts import Facts
from qa.reports.texts import Texts, load_texts
from warehouse import lake
from warehouse.home import Home, Network

log = logging.getLogger(__name__)
ITEMS = 5
"""Things to do that the body names; the report has all."""


def is_told(home: Home, site_code: str, version: str) -> bool:
    """Whether the mail of one report was written. It may have left `outbox/` since: whoever sent it may move it."""
    return _note(home, site_code, version).exists()


def _note(home: Home, site_code: str, version: str) -> Path:
    return report_folder(home, site_code, version) / "mail.json"


def write_mail(home: Home, network: Network, site_code: str, version: str, now: datetime) -> Path:
    """Write the mail of one report into `outbox/`, once per site and release.

    A mail that was written already is not written again, so that no site is told twice. Findings that were open become
    notified.

    Returns
    -------
    Path of the `.eml` file; it is no longer there when somebody has sent the mail and moved it.
    """
    target = home.outbox / f"{site_code}-{version}.eml"
    if is_told(home, site_code, version):
        return target
    if not target.exists():
        _write(home, network, site_code, version, now, target)
    mark_notified(home, site_code)
    lake.write_json(_note(home, site_code, version), {"mail": target.name, "written_datetime": now.isoformat()})
    log.info("%s: mail about release %s written", site_code, version)
    return target


def _write(home: Home, network: Network, site_code: str, version: str, now: datetime, target: Path) -> None:
    report = report_folder(home, site_code, version) / "index.html"
    if not report.exists():
        render_report(home, network, site_code, version)
    site = network.site(site_code)
    message = _message(site_facts(home, network, site_code), network, site.name or site.code, site.contact, version)
    message["Date"] = now
    domain = network.data_manager.rpartition("@")[2] or "ranvier.invalid"
    message["Message-ID"] = f"<report.{site_code}.{version}@{domain}>"
    page, name = report.read_text(encoding="utf-8"), f"report-{site_code}-{version}.html"
    message.add_attachment(page, subtype="html", charset="utf-8", cte="base64", filename=name)
    lake.write_bytes(target, message.as_bytes(policy=SMTP))


def _message(facts: Facts, network: Network, site_name: str, contact: str | None, version: str) -> EmailMessage:
    texts = load_texts()
    paragraphs, items = _words(facts, network, site_name, contact, texts)
    listed = ["\n".join(f"  - {item}" for item in items)] if items else []
    text = "\n\n".join([*paragraphs[:2], *listed, *paragraphs[2:]])
    page = environment().get_template("mail.html.j2").render(paragraphs=paragraphs, items=items)
    refuse_keys(text + page, set())
    message = EmailMessage()
    message["Subject"] = texts("mail.subject", network=network.name, site=site_name, version=version)
    message["From"] = network.data_manager
    message["To"] = contact or network.data_manager
    message["X-Unsent"] = "1"  # mail programs open the file as a draft that can be sent
    message.set_content(text + "\n")
    message.add_alternative(page, subtype="html")
    return message


def _words(
    facts: Facts, network: Network, site_name: str, contact: str | None, texts: Texts
) -> tuple[list[str], list[str]]:
    count = len(facts.tasks)
    opening = texts("mail.opening_todo", n=count) if count else texts("mail.opening_nothing")
    items = [
        texts("mail.item", title=task.title, who=texts(f"who.{task.who}"), n=task.count) for task in facts.tasks[:ITEMS]
    ]
    if count > ITEMS:
        items.append(texts("mail.rest", n=count - ITEMS))
    paragraphs = [texts("mail.greeting", site=site_name), opening, texts("mail.how")]
    if contact is None:
        paragraphs.append(texts("mail.forward", site=site_name))
    paragraphs.append(texts("mail.closing", contact=network.data_manager))
    return paragraphs, items
