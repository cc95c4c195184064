"""The generated files follow the dictionary and the policy, and drift is seen."""

from __future__ import annotations

from pathlib import Path

from warehouse import catalogue
from warehouse.dictionary import load_dictionary
from warehouse.policy import load_policy


def test_repository_has_not_drifted() -> None:
    assert catalogue.drift() == []
    assert catalogue.main(["--check"]) == 0


def test_drift_is_seen_and_mended(tmp_path: Path) -> None:
    catalogue.write(tmp_path)
    assert catalogue.drift(tmp_path) == []
    page = tmp_path / "docs/catalogue/variables.md"
    page.write_text(page.read_text() + "by hand\n")
    stray = tmp_path / "dbt_project/models/tiers/open/open__fct_visit.sql"
    stray.write_text("select 1")
    assert len(catalogue.drift(tmp_path)) == 2
    catalogue.write(tmp_path)
    assert catalogue.drift(tmp_path) == []
    assert not stray.exists()


def test_every_variable_is_in_the_catalogue() -> None:
    page = catalogue.generated(load_dictionary(), load_policy())["docs/catalogue/variables.md"]
    for entity in load_dictionary().entities.values():
        for variable in entity.variables:
            assert f"| `{variable.name}` |" in page
