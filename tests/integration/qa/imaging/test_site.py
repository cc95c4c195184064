"""Measuring and judging a site's series through the lake: cached, re-judged, told in the site's terms."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import polars as pl
import pytest

from qa import images
from qa.imaging import measure
from qa.imaging.exclusion import load_model
from qa.imaging.measure import ImageResult
from warehouse.home import Home, Network, Site
from warehouse.lake import put_file, put_object, read_table, write_json, write_part
from warehouse.tables import schema_of

NOW = datetime(2026, 11, 24, tzinfo=UTC)
NETWORK = Network(sites=[Site(code="AA")])


def series_row(home: Home, path: Path, key: str, **changes: Any) -> dict[str, Any]:
    digest, _ = put_file(home, path, ".nii.gz")
    row = dict.fromkeys(schema_of("raw_imaging__series"), None) | {
        "site_code": "AA", "delivery_key": "d1", "series_key": key, "subject_key": "s1", "source": "nifti",
        "first_file_number": 12, "last_file_number": 181, "contrast": "T1w", "is_derived": False, "status": "accepted",
        "acquisition_dimension": "3D", "spacing_x_mm": 1.0, "spacing_y_mm": 1.0, "slice_thickness_mm": 1.0,
        "image_sha256": digest,
    }  # fmt: skip
    return row | changes


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A site with a noise volume, a broken file and a bold run."""
    home = Home(tmp_path)
    noise, broken = tmp_path / "noise.nii.gz", tmp_path / "broken.nii.gz"
    data = np.random.default_rng(0).integers(0, 50, (24, 24, 24)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.diag([8.0, 8.0, 8.0, 1.0])), noise)  # type: ignore[attr-defined,no-untyped-call]
    broken.write_bytes(noise.read_bytes()[:200])
    ledger = {"identifiers_found": [{"tag": "(0029,1010)", "action": "removed"}]}
    digest, _ = put_object(home, lambda h: _fill(h, json.dumps(ledger).encode()), ".ledger.json")
    rows = [
        series_row(home, noise, "series-a", ledger_sha256=digest),
        series_row(home, broken, "series-b"),
        series_row(home, noise, "series-c", contrast="localizer"),
        series_row(home, noise, "series-d", status="refused"),
    ]
    frame = pl.DataFrame(rows, schema=schema_of("raw_imaging__series"))
    write_part(home, "raw_imaging__series", frame, "AA", "d1")
    return home


def _fill(handle: Any, data: bytes) -> None:
    handle.write(data)


def test_measures_are_computed_once_and_every_series_has_all_of_them(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert images.measure_site(home, NETWORK, "AA", ["d1"]) == 3
    table = read_table(home, "raw_qa__measure", "AA")
    assert table.group_by("series_key").len()["len"].to_list() == [len(images.CATALOGUE)] * 3
    assert (table["value"].is_null() != table["reason"].is_null()).all()

    def explode(*_: Any) -> ImageResult:
        raise AssertionError("measured again")

    monkeypatch.setattr(images, "measure_image", explode)
    assert images.measure_site(home, NETWORK, "AA", ["d1"]) == 0
    assert read_table(home, "raw_qa__measure", "AA").equals(table)


def test_verdicts_and_findings_use_the_sites_terms(home: Home) -> None:
    images.measure_site(home, NETWORK, "AA", ["d1"])
    findings = images.judge_site(home, NETWORK, "AA", ["d1"], now=NOW)
    verdicts = {row["series_key"]: row for row in read_table(home, "raw_qa__verdict", "AA").iter_rows(named=True)}
    assert set(verdicts) == {"series-a", "series-b", "series-c"}
    assert verdicts["series-b"]["verdict"] == "undetermined"
    assert verdicts["series-c"]["verdict"] == "undetermined"
    private = [f for f in findings if f.rule_id == "DEID_PRIVATE"]
    assert [f.where_found for f in private] == ["T1w, files 12-181"]
    assert "(0029,1010)" in private[0].message
    assert {f.rule_id for f in findings} <= images.IMAGE_RULES
    for finding in findings:
        assert finding.entity_key not in finding.message + finding.action + finding.where_found


def test_a_changed_threshold_judges_again_without_measuring(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    images.measure_site(home, NETWORK, "AA", ["d1"])
    images.judge_site(home, NETWORK, "AA", ["d1"], now=NOW)
    before = read_table(home, "raw_qa__verdict", "AA")["thresholds_sha256"][0]
    changed = NETWORK.model_copy(update={"thresholds": {"noise": 1.0}})
    assert images.measure_site(home, changed, "AA", ["d1"]) == 0
    images.judge_site(home, changed, "AA", ["d1"], now=NOW)
    assert read_table(home, "raw_qa__verdict", "AA")["thresholds_sha256"][0] != before


def test_a_new_method_version_measures_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    images.measure_site(home, NETWORK, "AA", ["d1"])
    monkeypatch.setattr(images, "VERSION", measure.VERSION + "-next")
    assert images.measure_site(home, NETWORK, "AA", ["d1"]) == 3


def test_a_worker_that_dies_takes_no_neighbour_down_and_is_tried_again(
    home: Home,
) -> None:
    def mapper(function: Any, items: Any) -> Any:
        for index, item in enumerate(items):
            yield (index, MemoryError()) if index == 0 else (index, function(item))

    assert images.measure_site(home, NETWORK, "AA", ["d1"], mapper=mapper) == 2
    images.judge_site(home, NETWORK, "AA", ["d1"], now=NOW)
    reasons = read_table(home, "raw_qa__verdict", "AA").filter(pl.col("series_key") == "series-a")["reasons"][0]
    assert "tried again" in reasons[0]
    assert not images.are_measured(home, "AA", ["d1"])
    assert images.measure_site(home, NETWORK, "AA", ["d1"]) == 1
    assert images.are_measured(home, "AA", ["d1"])


def keep_answer(home: Home, row: dict[str, Any], share: float) -> None:
    """Store measures as the cache holds them: each moved this share of the way towards exclusion."""
    model = load_model()
    place = 0.5 + 0.5 * share * np.sign(model.own_weights + model.network_weights)
    grid = np.linspace(0, 1, model.quantiles.shape[1])
    values = [float(np.interp(p, grid, q)) for p, q in zip(place, model.quantiles, strict=True)]
    measures = [
        {"name": name, "value": value, "reason": None, "method_version": "test", "mask_sha256": None}
        for name, value in zip(model.features, values, strict=True)
    ]
    key = images.measure_key(row)
    path = home.lake / "measures" / key[:2] / f"{key}.json"
    write_json(path, {"measures": measures, "picture_sha256": None, "notes": {}})


def test_the_probability_of_exclusion_stands_beside_the_verdict(home: Home, tmp_path: Path) -> None:
    rows = []
    for number, share in enumerate([0.9, 0.0, 0.0, 0.1]):
        image = tmp_path / f"image{number}.nii.gz"
        image.write_bytes(b"image %d" % number)
        row = series_row(home, image, f"series-{number}", scanner_key="x", contrast="FLAIR" if number == 3 else "T1w")
        keep_answer(home, row, share)
        rows.append(row)
    write_part(
        home, "raw_imaging__series", pl.DataFrame(rows, schema=schema_of("raw_imaging__series")), "AA", "d1"
    )  # fmt: skip
    findings = images.judge_site(home, NETWORK, "AA", ["d1"], now=NOW)
    judged = {row["series_key"]: row for row in read_table(home, "raw_qa__verdict", "AA").iter_rows(named=True)}
    assert judged["series-0"]["exclusion_probability"] > 0.5 > judged["series-1"]["exclusion_probability"]
    assert judged["series-0"]["exclusion_drivers"]
    assert judged["series-3"]["exclusion_probability"] is None
    assert "FLAIR" in judged["series-3"]["exclusion_reason"]
    assert judged["series-0"]["verdict"] == judged["series-1"]["verdict"]
    advice = [f for f in findings if f.rule_id == "IMG_EXCLUSION"]
    assert [(f.entity_key, f.severity) for f in advice] == [("series-0", "warning")]
    assert judged["series-0"]["exclusion_drivers"][0] in advice[0].message
