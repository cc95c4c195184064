"""The facts of one site's report, read from the lake.

Here: counting, grouping and naming things in the site's own terms. Not here: words (`texts.en.yaml`), drawing
(`charts`) or the page (`assemble`). Nothing that leaves this module holds a subject, session, series or row key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from qa.findings import ACTIVE
from qa.reports.facts import Count, DeliveryLine, Facts, FlaggedScan, Panel, Refusal, Task, TrendPoint
from qa.reports.texts import Texts
from qa.variables import by_rule
from warehouse import lake
from warehouse.dictionary import load_dictionary
from warehouse.home import Home, Network

FOLDER = Path(__file__).parent
WHERE_MAXIMUM = 12
"""Places named on the page for one thing to do; refused.csv has them all."""


def load_sections() -> dict[str, Any]:
    """What `sections.yaml` declares."""
    declared: dict[str, Any] = yaml.safe_load((FOLDER / "sections.yaml").read_text(encoding="utf-8"))
    return declared


def ranges(numbers: Iterable[int]) -> str:
    """`3, 7-9, 12` of the numbers 3 7 8 9 12."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}, {b}" if b == a + 1 else f"{a}-{b}" for a, b in runs)


class Gatherer:
    """Reads the lake once and answers for one site."""

    def __init__(self, home: Home, network: Network, site_code: str, texts: Texts) -> None:
        self.home, self.network, self.site, self.texts = home, network, site_code, texts
        self.declared = load_sections()
        self.dictionary = load_dictionary()
        deliveries = lake.read_table(home, "raw_lake__delivery", site_code).sort("received_datetime", "delivery_key")
        self.deliveries = deliveries.to_dicts()
        self.names = {row["delivery_key"]: row["display_name"] or "?" for row in self.deliveries}
        accepted = lake.read_table(home, "raw_lake__accepted", site_code)
        self.accepted = set(accepted["delivery_key"])
        self.replaced = set(accepted["supersedes_delivery_key"].drop_nulls())
        rows = {name: lake.read_table(home, f"raw_registry__{name}", site_code) for name in self.dictionary.entities}
        self.rows = rows
        self.withdrawn = withdrawn_subjects(rows["consent"])
        self.row_refusals = lake.read_table(home, "raw_registry__refusal", site_code)
        self.rule_refusals = lake.read_table(home, "raw_qa__refused_row", site_code)
        self.files = lake.read_table(home, "raw_lake__file", site_code)
        self.series = lake.read_table(home, "raw_imaging__series", site_code)
        verdicts = lake.read_table(home, "raw_qa__verdict", site_code)
        self.verdicts = {row["series_key"]: row for row in verdicts.iter_rows(named=True)}
        self.findings = [
            row
            for row in lake.read_table(home, "raw_qa__finding", site_code).iter_rows(named=True)
            if row["subject_key"] not in self.withdrawn or row["subject_key"] is None
        ]

    def facts(self) -> Facts:
        refusals = self._row_refusals() + self._rule_refusals() + self._file_refusals() + self._scan_refusals()
        lines = [self._delivery(row) for row in self.deliveries]
        flagged, waiting = self._flagged()
        limit = int(self.declared["pictures_maximum"])
        results = by_rule(lake.read_table(self.home, "raw_qa__rule_result", self.site)).to_dicts()
        panels = self._panels()
        tasks = self._tasks(refusals)
        dates = [row["received_datetime"] for row in self.deliveries if row["received_datetime"]]
        facts = Facts(
            site=self.site,
            as_of=f"{max(dates):%Y-%m-%d %H:%M} UTC" if dates else self.texts("no_date"),
            tasks=tasks,
            deliveries=lines[::-1],
            tables=self._tables(),
            refusals=refusals,
            verdicts=self._verdict_counts(),
            flagged=flagged[:limit],
            flagged_more=max(0, len(flagged) - limit),
            waiting=waiting,
            panels=panels,
            network_sites_minimum=int(self.declared["network_sites_minimum"]),
            by_delivery=self._by_delivery(lines),
            by_month=self._by_month(),
            checks=[r for r in results if r["status"] != "pass"],
            checks_passed=sum(r["status"] == "pass" and bool(r["denominator_count"]) for r in results),
            checks_empty=sum(r["status"] == "pass" and r["denominator_count"] == 0 for r in results),
            checks_count=len(results),
            praise=[],
        )
        facts.praise = self._praise(facts)
        return facts

    # What arrived

    def _refused_series(self) -> set[str]:
        return {key for key, row in self.verdicts.items() if row["is_refused"]}

    def _delivery(self, row: dict[str, Any]) -> DeliveryLine:
        key = row["delivery_key"]
        files = self.files.filter(pl.col("delivery_key") == key)
        is_refused = (pl.col("status") == "refused") | pl.col("series_key").is_in(list(self._refused_series()))
        rows = sum((self._table_count(name, key) for name in self.rows), Count())
        rows += Count(*[self._unplaced(key)] * 2)
        series = self.series.filter(pl.col("delivery_key") == key)
        accepted = series.filter(pl.col("status") == "accepted")["series_key"].to_list()
        verdicts = [self.verdicts[s] for s in accepted if s in self.verdicts]
        not_heads = sum(v["is_refused"] for v in verdicts)
        state = "used" if key in self.accepted else "waiting"
        if key in self.replaced:
            state = "replaced"
        if row["status"] == "unreadable":
            state = "unreadable"
        return DeliveryLine(
            name=self.names[key],
            received=f"{row['received_datetime']:%Y-%m-%d %H:%M}" if row["received_datetime"] else "",
            files=Count(files.height, files.filter(is_refused.fill_null(False)).height),
            rows=rows,
            scans=Count(series.height, series.height - len(accepted) + not_heads),
            passed=sum(v["verdict"] == "pass" for v in verdicts),
            judged=sum(v["verdict"] != "undetermined" for v in verdicts),
            state=state,
            reason=row["reason"] or "",
        )

    def _table_count(self, entity: str, delivery_key: str | None = None) -> Count:
        def of(frame: pl.DataFrame) -> pl.DataFrame:
            chosen = frame.filter(pl.col("delivery_key") == delivery_key) if delivery_key else frame
            return chosen.filter(pl.col("entity") == entity) if "entity" in chosen.columns else chosen

        unreadable = of(self.row_refusals)["row_key"].n_unique()
        ruled_out = of(self.rule_refusals)["row_key"].n_unique()
        return Count(of(self.rows[entity]).height + unreadable, unreadable + ruled_out)

    def _unplaced(self, delivery_key: str) -> int:
        """Refused rows of no table of the dictionary."""
        known = pl.col("entity").is_in(list(self.rows)).fill_null(False)
        return self.row_refusals.filter(~known & (pl.col("delivery_key") == delivery_key))["row_key"].n_unique()

    def _tables(self) -> list[tuple[str, Count]]:
        counted = [(name, self._table_count(name)) for name in self.rows]
        return [(name, count) for name, count in counted if count.sent]

    # What was left out

    def _places(self, lines: list[dict[str, Any]], word: str) -> tuple[list[str], int]:
        """`rows 3, 7-9 of file 1, in "x"` for lines with delivery, file and row."""
        grouped: dict[tuple[str | None, int | None], list[int]] = defaultdict(list)
        for line in lines:
            group = (line["delivery_key"], line["file"] if word == "row" else None)
            grouped[group].append(line[word] or 0)
        places = []
        for (delivery, file), numbers in grouped.items():
            many = "s" if len(set(numbers)) > 1 else ""
            text = f"{word}{many} {ranges(numbers)}" if any(numbers) else ""
            if file is not None:
                text += f" of file {file}"
            places.append(self._in_delivery(text, delivery))
        return self._cut(places)

    def _in_delivery(self, text: str, delivery_key: str | None) -> str:
        if delivery_key not in self.names or len(self.names) < 2:
            return text
        return f"{text}, {self.texts('todo.in_delivery', name=self.names[delivery_key])}"

    @staticmethod
    def _cut(places: list[str]) -> tuple[list[str], int]:
        return places[:WHERE_MAXIMUM], max(0, len(places) - WHERE_MAXIMUM)

    def _refusal(self, kind: str, word: str, what: str, code: str, lines: list[dict[str, Any]]) -> Refusal:
        reasons = {line["reason"] for line in lines if line["reason"]}
        why = reasons.pop() if len(reasons) == 1 else self.texts.get(f"reasons.{code}", "reasons.default")
        places, more = self._places(lines, word)
        action = lines[0].get("action") or self.texts.get(f"actions.{code}", "actions.default")
        return Refusal(kind, what, why, action, len(lines), places, more, lines)

    def _row_refusals(self) -> list[Refusal]:
        grouped: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
        for row in self.row_refusals.sort("delivery_key", "file_number", "source_row").iter_rows(named=True):
            line = self._line("row", row, row["entity"], row["file_number"], row["source_row"], row["reason"])
            grouped[row["entity"] or "?", row["variable"] or "", row["reason_code"] or ""].append(line)
        return [
            self._refusal("row", "row", f"{entity} table" + (f", {variable}" if variable else ""), code, lines)
            for (entity, variable, code), lines in grouped.items()
        ]

    def _rule_refusals(self) -> list[Refusal]:
        rules = {rule.id: rule for _, rule in self.dictionary.rules}
        found = []
        for (entity, rule_id), group in self.rule_refusals.group_by("entity", "rule_id", maintain_order=True):
            rule = rules.get(str(rule_id))
            rows = self.rows[str(entity)].join(group.select("row_key"), on="row_key", how="semi")
            rows = rows.sort("delivery_key", "file_number", "source_row")
            if rule is None or rows.is_empty():
                continue
            lines = []
            for r in rows.iter_rows(named=True):
                line = self._line("row", r, str(entity), r["file_number"], r["source_row"], rule.text)
                lines.append(line | {"action": rule.action})
            found.append(self._refusal("row", "row", f"{entity} table", str(rule_id), lines))
        return found

    def _file_refusals(self) -> list[Refusal]:
        grouped: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        refused = self.files.filter(pl.col("status") == "refused").sort("delivery_key", "file_number")
        for row in refused.iter_rows(named=True):
            line = self._line("file", row, "", row["file_number"], None, row["reason"])
            grouped[row["kind"] or "other", row["reason_code"] or ""].append(line)
        return [self._refusal("file", "file", f"{kind} files", code, lines) for (kind, code), lines in grouped.items()]

    def _scan_refusals(self) -> list[Refusal]:
        found = []
        for row in self._own_series().iter_rows(named=True):
            verdict = self.verdicts.get(row["series_key"])
            if verdict is None or not verdict["is_refused"]:
                continue
            numbers = range(row["first_file_number"] or 0, (row["last_file_number"] or 0) + 1)
            reason = "; ".join(verdict["reasons"] or [])
            lines = [self._line("scan", row, "", number, None, reason) for number in numbers]
            found.append(self._refusal("scan", "file", row["contrast"] or "scan", "not_head", lines))
        return found

    def _line(
        self,
        what: str,
        row: dict[str, Any],
        table: str | None,
        file: int | None,
        number: int | None,
        reason: str | None,
    ) -> dict[str, Any]:
        key = row["delivery_key"]
        return {
            "what": what,
            "delivery_key": key,
            "delivery": self.names.get(key, ""),
            "table": table or "",
            "file": file,
            "row": number,
            "reason": reason or "",
        }

    # What needs doing

    def _tasks(self, refusals: list[Refusal]) -> list[Task]:
        grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for finding in self.findings:
            if finding["state"] in ACTIVE:
                grouped[finding["rule_id"]].append(finding)
        tasks = [self._finding_task(rule_id, group) for rule_id, group in grouped.items()]
        for refusal in refusals:
            is_told = refusal.kind == "scan" or any(line.get("action") for line in refusal.lines)
            if is_told:  # its findings have told it already
                continue
            who = "registry" if refusal.kind == "row" else "sender"
            title = capital(f"{refusal.what}: {refusal.why}")
            tasks.append(
                Task(title, who, "refused", refusal.count, [refusal.action], refusal.places, refusal.places_more)
            )
        order = {"error": 0, "refused": 1, "warning": 2}
        return sorted(tasks, key=lambda task: (order[task.severity], -task.count, task.title))

    def _finding_task(self, rule_id: str, group: list[dict[str, Any]]) -> Task:
        group = sorted(group, key=lambda f: self._finding_order(f))
        messages = {finding["message"] for finding in group}
        title = group[0]["message"]
        if self.texts.has(f"rules.{rule_id}"):
            title = self.texts(f"rules.{rule_id}")
        elif group[0]["entity_kind"] == "row":
            title = f"{group[0]['where_found'].split(',')[0]}: {title}"
        if group[0]["entity_kind"] == "row" and len(messages) == 1:
            places, more = self._places([self._row_of(finding) for finding in group], "row")
        else:
            words = [self._scan_or_where(finding) for finding in group]
            is_told = len(messages) == 1 and not self.texts.has(f"rules.{rule_id}")
            told = [w if is_told else f"{w}: {f['message']}" for w, f in zip(words, group, strict=True)]
            places, more = self._cut([text.strip(": ") for text in told])
        return Task(
            title=capital(title),
            who=self.declared["who"].get(group[0]["quality_class"], "registry"),
            severity="error" if any(finding["severity"] == "error" for finding in group) else "warning",
            count=len(group),
            actions=list(dict.fromkeys(finding["action"] for finding in group)),
            places=[place for place in places if place],
            places_more=more,
        )

    def _finding_order(self, finding: dict[str, Any]) -> tuple[Any, ...]:
        row = self._row_of(finding) if finding["entity_kind"] == "row" else {}
        keys = list(self.names)
        delivery = keys.index(finding["delivery_key"]) if finding["delivery_key"] in self.names else -1
        series = self._series_by_key().get(finding["entity_key"], {})
        return (delivery, row.get("file") or series.get("first_file_number") or 0, row.get("row") or 0)

    def _row_of(self, finding: dict[str, Any]) -> dict[str, Any]:
        found = self._rows_by_key().get(finding["entity_key"], {})
        return {
            "delivery_key": finding["delivery_key"],
            "file": found.get("file_number"),
            "row": found.get("source_row"),
        }

    def _rows_by_key(self) -> dict[str, dict[str, Any]]:
        if not hasattr(self, "_row_index"):
            columns = ["row_key", "file_number", "source_row"]
            frames = [frame.select(columns) for frame in self.rows.values()]
            self._row_index = {row["row_key"]: row for row in pl.concat(frames).iter_rows(named=True)}
        return self._row_index

    def _series_by_key(self) -> dict[str, dict[str, Any]]:
        if not hasattr(self, "_series_index"):
            self._series_index = {row["series_key"]: row for row in self.series.iter_rows(named=True)}
        return self._series_index

    def _scan_or_where(self, finding: dict[str, Any]) -> str:
        series = self._series_by_key().get(finding["entity_key"])
        where = series_name(series) if series else finding["where_found"] or ""
        return self._in_delivery(where, finding["delivery_key"]) if where else ""

    # Scans

    def _own_series(self) -> pl.DataFrame:
        """Accepted series of subjects who have not withdrawn, each once, of deliveries that no later one replaces."""
        return kept_series(self.series, self.withdrawn).filter(~pl.col("delivery_key").is_in(list(self.replaced)))

    def _verdict_counts(self) -> dict[str, int]:
        counts = {"pass": 0, "fail": 0, "undetermined": 0}
        for key in self._own_series()["series_key"]:
            verdict = self.verdicts.get(key)
            counts[verdict["verdict"] if verdict else "undetermined"] += 1
        return counts

    def _flagged(self) -> tuple[list[FlaggedScan], list[tuple[str, int]]]:
        flagged: list[FlaggedScan] = []
        waiting: dict[str, int] = defaultdict(int)
        for row in self._own_series().sort("delivery_key", "first_file_number").iter_rows(named=True):
            verdict = self.verdicts.get(row["series_key"])
            if verdict is None or verdict["verdict"] == "pass":
                continue
            picture = self._picture(verdict["picture_sha256"])
            reasons = list(verdict["reasons"] or [])
            if verdict["verdict"] == "undetermined" and picture is None:
                waiting[f"{row['contrast'] or 'scan'}: {'; '.join(reasons)}"] += 1
                continue
            delivery = self.names.get(row["delivery_key"], "")
            flagged.append(FlaggedScan(series_name(row), delivery, verdict["verdict"], reasons, picture))
        flagged.sort(key=lambda scan: scan.verdict != "fail")
        return flagged, sorted(waiting.items(), key=lambda item: -item[1])

    def _picture(self, digest: str | None) -> Path | None:
        if not digest:
            return None
        path = lake.object_path(self.home, digest, ".png")
        return path if path.is_file() else None

    def _panels(self) -> list[Panel]:
        values = network_values(self.home, self.declared["measures"])
        panels = []
        for contrast in self.declared["contrasts"]:
            for measure in self.declared["measures"]:
                chosen = values.filter((pl.col("contrast") == contrast) & (pl.col("measure") == measure))
                own = chosen.filter(pl.col("site_code") == self.site)
                if own.height < int(self.declared["scans_minimum"]):
                    continue
                network = None
                if chosen["site_code"].n_unique() >= int(self.declared["network_sites_minimum"]):
                    low, middle, high = (chosen["value"].quantile(q, "linear") for q in (0.05, 0.5, 0.95))
                    if low is not None and middle is not None and high is not None:
                        network = (low, middle, high)
                first = own.row(0, named=True)
                unit = "" if first["unit"] in ("1", None) else first["unit"]
                panels.append(Panel(contrast, measure, unit, first["direction"], own["value"].to_list(), network))
        return panels

    # Over time

    def _by_delivery(self, lines: list[DeliveryLine]) -> list[TrendPoint]:
        points = [
            TrendPoint(line.name, share(line.rows.accepted, line.rows.sent), share(line.passed, line.judged))
            for line in lines
            if line.state != "unreadable" and (line.rows.sent or line.judged)
        ]
        return points[-int(self.declared["trend_points_maximum"]) :]

    def _by_month(self) -> list[TrendPoint]:
        months: dict[str, list[bool]] = defaultdict(list)
        for row in self._own_series().iter_rows(named=True):
            verdict = self.verdicts.get(row["series_key"])
            if row["acquisition_datetime"] and verdict and verdict["verdict"] != "undetermined":
                months[f"{row['acquisition_datetime']:%Y-%m}"].append(verdict["verdict"] == "pass")
        points = [TrendPoint(month, None, share(sum(months[month]), len(months[month]))) for month in sorted(months)]
        return points[-int(self.declared["trend_points_maximum"]) :]

    def _praise(self, facts: Facts) -> list[str]:
        said = []
        if facts.files.sent and not facts.files.refused:
            said.append(self.texts("praise.all_files", n=facts.files.sent))
        if facts.rows.sent and not facts.rows.refused:
            said.append(self.texts("praise.all_rows", n=facts.rows.sent))
        if facts.verdicts["pass"] and not facts.verdicts["fail"]:
            said.append(self.texts("praise.all_scans", n=facts.verdicts["pass"]))
        if resolved := sum(finding["state"] == "resolved" for finding in self.findings):
            said.append(self.texts("praise.resolved", n=resolved))
        better: dict[str, list[str]] = defaultdict(list)
        for panel in facts.panels:
            if panel.is_better:
                label = self.texts(f"measures.labels.{panel.measure}")
                better[panel.contrast].append(label[:1].lower() + label[1:])
        said += [
            self.texts("praise.better", contrast=contrast, measures="; ".join(labels))
            for contrast, labels in better.items()
        ]
        return said


def share(part: int, whole: int) -> float | None:
    """Per cent, or None of nothing."""
    return 100 * part / whole if whole else None


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def series_name(row: dict[str, Any]) -> str:
    """A series in the site's terms: contrast and the numbers of its files."""
    contrast = row["contrast"] or "unknown"
    name = "scan" if contrast in ("unknown", "other") else contrast
    first, last = row["first_file_number"], row["last_file_number"]
    if first is None:
        return name
    return f"{name}, file {first}" if first == last else f"{name}, files {first}-{last}"


def withdrawn_subjects(consent: pl.DataFrame) -> set[str]:
    """Subjects with a withdrawal in any consent row ever sent: fails closed until a data manager decides otherwise."""
    return set(consent.filter(pl.col("withdrawal_date").is_not_null())["subject_key"].drop_nulls())


def kept_series(series: pl.DataFrame, withdrawn: set[str]) -> pl.DataFrame:
    """Accepted series of subjects who have not withdrawn, each once."""
    is_withdrawn = pl.col("subject_key").is_in(list(withdrawn)).fill_null(False)
    kept = series.filter((pl.col("status") == "accepted") & ~is_withdrawn)
    return kept.unique("series_key", keep="last", maintain_order=True)


def network_values(home: Home, measures: list[str]) -> pl.DataFrame:
    """Site, contrast, measure, value, unit and direction of every scan of a head in the network, withdrawn left out."""
    series = kept_series(
        lake.read_table(home, "raw_imaging__series"),
        withdrawn_subjects(lake.read_table(home, "raw_registry__consent")),
    )
    refused = lake.read_table(home, "raw_qa__verdict").filter(pl.col("is_refused"))["series_key"]
    wanted = series.filter(~pl.col("series_key").is_in(refused.to_list())).select("series_key", "contrast")
    values = lake.read_table(home, "raw_qa__measure").filter(
        pl.col("measure").is_in(measures) & pl.col("value").is_not_null()
    )
    return values.join(wanted, on="series_key").select("site_code", "contrast", "measure", "value", "unit", "direction")
