"""The dictionary's own promises: names, sources, references, and no changed definition without a note."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from warehouse.dictionary import FOLDER, dmts, load_dictionary, versions
from warehouse.errors import DictionaryError

BRIEF = {
    "patient", "comorbidity", "diagnosis", "visit", "relapse", "treatment", "mri_session", "csf", "evoked_potential",
    "laboratory", "pregnancy", "questionnaire", "neuropsychology", "adverse_event", "consent",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(FOLDER, tmp_path / "dictionary")
    return tmp_path / "dictionary"


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_every_table_of_the_network_is_defined() -> None:
    assert load_dictionary().entities.keys() == BRIEF


def test_every_variable_of_health_says_where_it_stands_in_sdtm() -> None:
    lacking = [
        variable.name
        for entity in load_dictionary().entities.values()
        for variable in entity.stored_variables
        if entity.name != "consent" and not variable.sdtm
    ]
    assert lacking == []


def test_every_treatment_has_a_class_and_its_approval() -> None:
    table = dmts()
    codes = load_dictionary().entities["treatment"].variable("dmt").codes
    assert codes == dict(zip(table["code"], table["name"], strict=True))
    years = dict(zip(table["code"], table["first_approval_date"].dt.year(), strict=True))
    assert (years["natalizumab"], years["fingolimod"], years["rituximab"]) == (2004, 2010, None)
    assert table.filter(~table["source"].str.contains("general knowledge|no approval"))["is_verified"].all()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("visit.yaml", "{name: weight_kg,", "{name: dose,", "dose is a variable of treatment and of visit"),
        ("csf.yaml", "event_date: csf_date", "event_date: puncture_date", "told by puncture_date"),
        ("csf.yaml", "sdtm: LB.LBDTC", "sdtm: lumbar puncture", "sdtm"),
        ("csf.yaml", 'note: "That the 2024', 'owner: "That the 2024', "is not verified"),
    ],
)
def test_a_dictionary_that_contradicts_itself_is_refused(
    folder: Path, file: str, old: str, new: str, message: str
) -> None:
    change(folder / file, old, new)
    with pytest.raises(DictionaryError, match=message):
        load_dictionary(folder)


def test_the_dictionary_is_the_version_it_says() -> None:
    assert versions.problems(load_dictionary()) == []


def test_a_changed_definition_needs_a_new_version_and_a_note(folder: Path) -> None:
    history = folder / "history"
    change(folder / "visit.yaml", "Cerebellar functional system score.", "Cerebellar score after conversion.")
    assert versions.problems(load_dictionary(folder), history) == [
        "visit.fs_cerebellar differs from what version 1.2 said; raise VERSION and say in migrations.yaml what to do"
    ]
    (folder / "VERSION").write_text("1.10\n", encoding="utf-8")
    load_dictionary.cache_clear()
    changed = load_dictionary(folder)
    assert versions.problems(changed, history) == ["Version 1.10 is not on record; run: python -m warehouse.catalogue"]
    versions.record(changed, history)
    assert versions.problems(changed, history) == ["visit.fs_cerebellar changed with version 1.10 and has no note"]
    notes = history / "migrations.yaml"
    note = {"1.10": {"visit.fs_cerebellar": {"change": "It is converted.", "migration": "Send the visits again."}}}
    notes.write_text(notes.read_text(encoding="utf-8") + yaml.safe_dump(note), encoding="utf-8")
    assert versions.problems(changed, history) == []


def test_what_is_new_says_since_when(folder: Path) -> None:
    history = folder / "history"
    change(folder / "csf.yaml", 'type: date, required: true, since: "1.2"', 'type: date, required: true, since: "1.0"')
    assert versions.problems(load_dictionary(folder), history) == ["csf.csf_date is new and says it is since 1.0"]
