"""A site's report and mail, made from a lake: complete, without keys, without outside requests, without other sites."""

from __future__ import annotations

import csv
import email
import email.policy
import re
import socket
import time
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import polars as pl
import pytest

from qa import findings, variables
from qa.data_docs import build_data_docs
from qa.reports import is_told, render_report, write_mail
from qa.reports.assemble import site_facts
from tests.integration.qa.network import SITES, keys, write_network
from warehouse import lake
from warehouse.dictionary import load_dictionary
from warehouse.errors import HomeError, ReleaseError
from warehouse.home import Home, Network

NOW = datetime(2026, 6, 3, tzinfo=UTC)
VERSION = "2026-06-03.1"
SITE = "BASEL"


def build(root: Path, sites: tuple[str, ...] = SITES) -> tuple[Home, Network]:
    home = Home(root)
    network = write_network(home, sites)
    found, _ = variables.validate_site(home, SITE, [keys(SITE, n)["delivery"] for n in (1, 2)])
    findings.upsert(home, SITE, found, now=NOW, scope=variables.decided_rules(home, SITE))
    return home, network


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Network, str]:
    home, network = build(tmp_path_factory.mktemp("network"))
    page = render_report(home, network, SITE, VERSION).read_text(encoding="utf-8")
    return home, network, page


def test_the_first_thing_on_the_page_is_what_needs_doing_by_whom(made: tuple[Home, Network, str]) -> None:
    page = made[2]
    assert page.index("What needs doing") < page.index("What arrived") < page.index("Your scans beside")
    first = page[page.index('<ol class="tasks">') :]
    assert "Visit table: edss must be from 0 to 10" in first
    assert "rows 4, 6 of file 1, in “delivery 2”" in first
    assert "Registry staff" in first
    assert "Radiographer" in first
    assert "FLAIR, files 22-41, in “delivery 2”: the field of view cuts the head at the occiput" in first
    order = re.findall(r'<li class="(error|refused|warning)">', first)
    assert order == sorted(order, key=["error", "refused", "warning"].index)


def test_what_was_sent_is_what_was_taken_in_and_what_was_refused(made: tuple[Home, Network, str]) -> None:
    home, network, _ = made
    facts = site_facts(home, network, SITE)
    first, second = reversed(facts.deliveries)
    assert (first.files.sent, first.files.refused, first.rows.sent, first.rows.refused) == (122, 1, 54, 0)
    # One file that is no image, and twenty of a series that is no head; four unreadable rows and two that break R01.
    assert (second.files.sent, second.files.refused, second.rows.sent, second.rows.refused) == (122, 21, 58, 6)
    assert (second.scans.sent, second.scans.refused) == (6, 1)
    with (home.reports / SITE / VERSION / "refused.csv").open(encoding="utf-8-sig", newline="") as handle:
        lines = list(csv.DictReader(handle))
    assert sum(line["what"] == "row" for line in lines) == facts.rows.refused
    assert sum(line["what"] in ("file", "scan") for line in lines) == facts.files.refused
    assert all(line["what_to_do"] for line in lines)


def test_the_page_and_the_mail_hold_no_key(made: tuple[Home, Network, str]) -> None:
    home, network, page = made
    mail = write_mail(home, network, SITE, VERSION, NOW)
    message = email.message_from_bytes(mail.read_bytes(), policy=email.policy.default)
    texts = [page, (home.reports / SITE / VERSION / "refused.csv").read_text(encoding="utf-8")]
    texts += [str(part.get_content()) for part in message.walk() if part.get_content_maintype() == "text"]
    frame = lake.read_table(home, "raw_registry__visit", SITE)
    secrets = set(frame["row_key"]) | set(frame["subject_key"]) | set(frame["delivery_key"])
    secrets |= set(lake.read_table(home, "raw_imaging__series", SITE)["series_key"])
    secrets |= set(lake.read_table(home, "raw_imaging__series", SITE)["session_key"])
    assert len(texts) == 5
    assert not [secret for secret in secrets if any(secret in text for text in texts)]


def test_the_page_asks_for_nothing_from_outside(made: tuple[Home, Network, str]) -> None:
    page = made[2]
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert not re.search(r"https?://|@import|url\(|<script", page)
    assert "default-src 'none'" in page


def test_every_flagged_scan_has_its_picture_and_reason_but_none_of_a_withdrawn_patient(
    made: tuple[Home, Network, str],
) -> None:
    home, network, page = made
    facts = site_facts(home, network, SITE)
    # Of four flagged series two belong to subject 1, who has withdrawn.
    assert [scan.name for scan in facts.flagged] == ["FLAIR, files 22-41", "T1w, files 82-101"]
    assert page.count("<img ") == page.count("data:image/jpeg;base64,") == 2
    assert page.count('alt="Mosaic of slices of the scan') == 2
    assert "right side" not in page
    assert "motion (smear" not in page
    assert "bold: measures for bold not available yet" in page


def test_the_network_is_shown_as_median_and_range_and_no_other_site_is_named(made: tuple[Home, Network, str]) -> None:
    home, network, page = made
    facts = site_facts(home, network, SITE)
    assert {panel.contrast for panel in facts.panels} == {"T1w", "FLAIR"}
    assert all(panel.network is not None for panel in facts.panels)
    for other in SITES[1:]:
        assert other not in page
        assert other.title() not in page


def test_two_sites_are_too_few_to_show_a_network(tmp_path: Path) -> None:
    home, network = build(tmp_path, SITES[:2])
    facts = site_facts(home, network, SITE)
    assert facts.panels
    assert all(panel.network is None for panel in facts.panels)
    page = render_report(home, network, SITE, VERSION).read_text(encoding="utf-8")
    assert "once 3 sites have such scans" in page
    assert 'class="range"' not in page


def test_the_same_lake_gives_the_same_page_within_three_seconds(made: tuple[Home, Network, str]) -> None:
    home, network, page = made
    before = time.perf_counter()
    again = render_report(home, network, SITE, VERSION).read_text(encoding="utf-8")
    assert time.perf_counter() - before < 3
    assert again == page


def test_a_site_that_has_sent_nothing_gets_a_page_that_says_how_to_begin(tmp_path: Path) -> None:
    home, network = build(tmp_path, SITES[:1])
    (home.network_file).write_text("sites: [{code: EMPTY}, {code: BASEL}]\n", encoding="utf-8")
    page = render_report(home, home.network(), "EMPTY", VERSION).read_text(encoding="utf-8")
    assert "No delivery has been received yet" in page
    with pytest.raises(HomeError, match="no site 'NOWHERE'"):
        render_report(home, network, "NOWHERE", VERSION)


def test_an_unreadable_delivery_is_told_with_its_reason(tmp_path: Path) -> None:
    home, network = build(tmp_path, SITES[:1])
    key = keys(SITE, 3)["delivery"]
    row = {"site_code": SITE, "delivery_key": key, "display_name": "delivery 3", "status": "unreadable"}
    row |= {"reason": "the archive is broken <b>", "reason_code": "x"}
    schema = lake.schema_of("raw_lake__delivery")
    frame = pl.DataFrame([row | {"received_datetime": NOW}], schema=schema)
    lake.write_part(home, "raw_lake__delivery", frame, SITE, key)
    page = render_report(home, network, SITE, VERSION).read_text(encoding="utf-8")
    assert "could not be read: the archive is broken &lt;b&gt;" in page


def test_a_key_in_a_reason_stops_the_report_and_leaves_nothing(tmp_path: Path) -> None:
    home, network = build(tmp_path, SITES[:1])
    part = lake.part_path(home, "raw_qa__verdict", SITE)
    leak = pl.read_parquet(part).with_columns(reasons=pl.lit(["see sbj_00112233aabbccdd"]))
    lake.write_part(home, "raw_qa__verdict", leak, SITE)
    with pytest.raises(ReleaseError, match="key"):
        render_report(home, network, SITE, VERSION)
    assert not (home.reports / SITE).exists()


def test_a_mail_is_written_once_and_opens_with_the_report_attached(tmp_path: Path) -> None:
    home, network = build(tmp_path)
    render_report(home, network, SITE, VERSION)
    path = write_mail(home, network, SITE, VERSION, NOW)
    first = path.read_bytes()
    assert write_mail(home, network, SITE, VERSION, datetime.now(UTC)) == path
    assert path.read_bytes() == first
    assert [p.name for p in home.outbox.iterdir()] == [f"{SITE}-{VERSION}.eml"]
    message = email.message_from_bytes(first, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert (message["To"], message["From"]) == ("ms@basel.example.org", network.data_manager)
    plain, rich = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None
    assert rich is not None
    for body in (plain.get_content(), rich.get_content()):
        assert "6 things need doing" in body
        assert not re.search(r"\brows? \d|\bfiles? \d|<img", body)
    (attached,) = message.iter_attachments()
    page = (home.reports / SITE / VERSION / "index.html").read_text(encoding="utf-8")
    assert attached.get_content().rstrip() == page.rstrip()
    states = lake.read_table(home, "raw_qa__finding", SITE)["state"]
    assert set(states) == {"notified"}
    path.unlink()  # sent, and moved away
    write_mail(home, network, SITE, VERSION, NOW)
    assert not path.exists()


def test_a_site_counts_as_told_only_when_its_findings_say_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, network = build(tmp_path)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("qa.reports.mail.mark_notified", die)
        with pytest.raises(KeyboardInterrupt):
            write_mail(home, network, SITE, VERSION, NOW)
    assert not is_told(home, SITE, VERSION)
    (mail,) = home.outbox.iterdir()
    first = mail.read_bytes()
    assert write_mail(home, network, SITE, VERSION, datetime.now(UTC)).read_bytes() == first
    assert is_told(home, SITE, VERSION)
    assert "open" not in lake.read_table(home, "raw_qa__finding", SITE)["state"].to_list()


def test_data_docs_hold_counts_but_no_key_and_nothing_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("Great Expectations tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    home, _ = build(tmp_path, SITES[:1])
    delivered = [keys(SITE, n)["delivery"] for n in (1, 2)]
    for _ in range(2):
        index = build_data_docs(home, SITE, variables.validate_site(home, SITE, delivered)[1])
    assert index == home.lake / "docs" / SITE / "index.html"
    frame = lake.read_table(home, "raw_registry__visit", SITE)
    secrets = set(frame["row_key"]) | set(frame["subject_key"])
    pages = list(index.parent.glob("*.html"))
    assert len(pages) == 1 + len(load_dictionary().entities)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not [secret for secret in secrets if secret in text]
        assert not re.search(r"(?:https?:)?//[a-z]|<script|<img", text)
        for link in re.findall(r'href="([^"#]+)', text):
            assert (index.parent / link).is_file(), link
    assert "R01: edss must be from 0 to 10" in (index.parent / "visit.html").read_text(encoding="utf-8")
    assert [p.name for p in index.parent.parent.iterdir()] == [SITE]


def test_validation_of_a_site_writes_results_refused_rows_and_findings(made: tuple[Home, Network, str]) -> None:
    home = made[0]
    refused = lake.read_table(home, "raw_qa__refused_row", SITE)
    assert set(refused["rule_id"]) == {"R01"}
    assert refused.height == 2
    results = lake.read_table(home, "raw_qa__rule_result", SITE)
    assert dict(results.filter(pl.col("status") == "fail").select("rule_id", "violated_count").iter_rows()) == {
        "R01": 2,
        "R07a": 1,
    }


def test_data_docs_show_a_rule_that_is_not_known_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, _ = build(tmp_path, SITES[:1])
    read = lake.read_table

    def without_edss(home: Home, table: str, site_code: str | None = None) -> pl.DataFrame:
        frame = read(home, table, site_code)
        return frame.drop("edss") if table == "raw_registry__visit" else frame

    monkeypatch.setattr(lake, "read_table", without_edss)
    judged = variables.validate_site(home, SITE, [keys(SITE, 1)["delivery"]])[1]
    index = build_data_docs(home, SITE, judged)
    page = (index.parent / "visit.html").read_text(encoding="utf-8")
    assert "undetermined: column edss is absent" in page
    assert "fa-exclamation-triangle" in page
    assert "fa-times" not in page.replace("Failed", "").split("Statistics")[1]
