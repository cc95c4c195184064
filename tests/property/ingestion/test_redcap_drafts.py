"""Whatever a REDCap project holds, its draft is a profile that can be loaded, and nothing of it is forgotten."""

from __future__ import annotations

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.profile import Profile
from ingestion.registry.redcap import ExportFacts, RedcapField, draft
from warehouse.dictionary import Variable, load_dictionary

KNOWN = sorted({v.name for entity in load_dictionary().entities.values() for v in entity.variables} - {"patient_id"})
NAMES = st.one_of(st.sampled_from(KNOWN), st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True))
RAW = st.from_regex(r"[0-9]{1,2}|[A-Z]{1,2}", fullmatch=True)
CHOICES = st.dictionaries(RAW, st.text("abcXYZ ,é-", min_size=1, max_size=12), min_size=1, max_size=4)


@st.composite
def fields(draw: st.DrawFn) -> list[RedcapField]:
    names = draw(st.lists(NAMES, min_size=1, max_size=8, unique=True))
    made = [RedcapField("record_id", "patient", "text", "Record", {}, "", "", "", False, True)]
    for name in names:
        kind = draw(st.sampled_from(["text", "radio", "dropdown", "checkbox", "yesno", "calc", "descriptive", "notes"]))
        choices = draw(CHOICES) if kind in ("radio", "dropdown", "checkbox") else {}
        validation = draw(st.sampled_from(["", "date_dmy", "integer", "number"])) if kind == "text" else ""
        form = draw(st.sampled_from(["patient", "visit", "relapse", "other_form"]))
        label = draw(st.text("abc :#'\"é\n", max_size=20))
        identifier = draw(st.booleans())
        made.append(
            RedcapField(name, form, kind, label, choices, validation, "1", "x", identifier, draw(st.booleans()))
        )
    return made


@settings(max_examples=25, deadline=None)
@given(fields(), st.booleans(), st.booleans())
def test_any_project_becomes_a_profile_in_which_every_field_is_placed_or_marked(
    project: list[RedcapField], repeats: bool, is_gray_blank: bool
) -> None:
    columns = {"record_id", *(f"{f.form}_complete" for f in project), *(f.name for f in project)}
    columns |= {"redcap_repeat_instrument"} if repeats else set()
    made = draft(
        project, ExportFacts(frozenset(columns), frozenset({"relapse"} if repeats else ()), is_gray_blank), "x"
    )
    text = made.profile_yaml()
    profile = Profile.model_validate(yaml.safe_load(text))
    holding = [f for f in project[1:] if f.kind not in ("descriptive", "file")]
    wanted = {
        c
        for f in holding
        for c in ([f.name] if f.kind != "checkbox" else [f"{f.name}___{r.lower()}" for r in f.choices])
    }
    assert {p.column for p in made.proposals} == wanted
    placed = [(p.entity, p.variable) for p in made.proposals if p.variable]
    assert len(placed) == len(set(placed))
    in_profile = {c for tables in profile.entities.values() for table in tables for c in table.columns} - {"record_id"}
    assert in_profile == {p.column for p in made.proposals if p.variable}
    for said in made.variables:
        assert Variable.model_validate(said).tier == "none"
