"""The dictionary as a REDCap data dictionary, from which a site makes its project.

Here: the 18 columns of the file and what each says of a variable. Not here: reading one (`ingestion.registry.redcap`).
Source: the file that REDCap gives under "Download the current Data Dictionary".
"""

from __future__ import annotations

import csv
import io

from warehouse.dictionary import Dictionary, Entity, Variable

HEADER = (
    "Variable / Field Name",
    "Form Name",
    "Section Header",
    "Field Type",
    "Field Label",
    "Choices, Calculations, OR Slider Labels",
    "Field Note",
    "Text Validation Type OR Show Slider Number",
    "Text Validation Min",
    "Text Validation Max",
    "Identifier?",
    "Branching Logic (Show field only if...)",
    "Required Field?",
    "Custom Alignment",
    "Question Number (surveys only)",
    "Matrix Group Name",
    "Matrix Ranking?",
    "Field Annotation",
)
RECORD_ID = "patient_id"
VALIDATION = {"date": "date_ymd", "integer": "integer", "decimal": "number"}


def redcap_dictionary(dictionary: Dictionary) -> str:
    """The data dictionary as CSV: one row per variable, one form per table, the patient's form first.

    The patient's identifier is the record, so it stands once. A code's own name is its raw value.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER, restval="", lineterminator="\r\n")
    writer.writeheader()
    entities = sorted(dictionary.entities.values(), key=lambda entity: entity.name != "patient")
    for entity in entities:
        is_first = True
        for variable in entity.variables:
            if variable.name == RECORD_ID and entity.name != "patient":
                continue
            writer.writerow(_row(entity, variable, dictionary.version) | _section(entity, is_first))
            is_first = False
    return text.getvalue()


def _section(entity: Entity, is_first: bool) -> dict[str, str]:
    return {"Section Header": entity.description} if is_first else {}


def _row(entity: Entity, variable: Variable, version: str) -> dict[str, str]:
    kind = {"code": "dropdown", "boolean": "yesno"}.get(variable.type, "text")
    row = {
        "Variable / Field Name": variable.name,
        "Form Name": entity.name,
        "Field Type": kind,
        "Field Label": variable.definition,
        "Field Note": f"Unit: {variable.unit}" if variable.unit else "",
        "Text Validation Type OR Show Slider Number": VALIDATION.get(variable.type, ""),
        "Identifier?": "y" if variable.is_identifier else "",
        "Required Field?": "y" if variable.required or variable.name == RECORD_ID else "",
        "Field Annotation": f"Ranvier dictionary {version}; source: {variable.source}",
    }
    if variable.codes:
        # REDCap splits choices at the bar, and the raw value from its label at the first comma.
        choices = [f"{code}, {meaning.replace('|', '/')}" for code, meaning in variable.codes.items()]
        row["Choices, Calculations, OR Slider Labels"] = " | ".join(choices)
    if kind == "text":
        row["Text Validation Min"] = _number(variable.minimum)
        row["Text Validation Max"] = _number(variable.maximum)
    return row


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
