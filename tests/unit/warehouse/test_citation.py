"""Citation metadata: what network.yaml says stands in both formats, and nothing is made up."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from warehouse import citation
from warehouse.home import Network

NAMED = Network.model_validate(
    {
        "name": "Example MS network",
        "citation": {
            "creators": [
                {"name": "Rossi, Anna", "orcid": "0000-0002-1825-0097"},
                {"name": "The registry group", "is_person": False},
            ],
            "publisher": "Example University",
            "licence": "CC-BY-4.0",
            "terms": "Ask first.",
            "doi": "10.1234/example",
        },
    }
)


def test_what_the_network_says_stands_in_both_formats(tmp_path: Path) -> None:
    cff = citation.cff(NAMED, "2026-11-24.1", "2026-11-24")
    assert cff["authors"] == [
        {"family-names": "Rossi", "given-names": "Anna", "orcid": "https://orcid.org/0000-0002-1825-0097"},
        {"name": "The registry group"},
    ]
    assert (cff["license"], cff["doi"], cff["type"]) == ("CC-BY-4.0", "10.1234/example", "dataset")
    data = citation.datacite(NAMED, "2026-11-24.1", "2026-11-24")
    assert data["creators"][0]["familyName"] == "Rossi" and data["creators"][1]["nameType"] == "Organizational"
    assert data["rightsList"] == [
        {"rights": "Ask first.", "rightsIdentifier": "CC-BY-4.0", "rightsIdentifierScheme": "SPDX"}
    ]
    assert (data["publisher"]["name"], data["publicationYear"], data["doi"]) == (
        "Example University", "2026", "10.1234/example",
    )  # fmt: skip
    citation.write(tmp_path, NAMED, "2026-11-24.1", "2026-11-24")
    assert citation.sentence(tmp_path) == (
        "Rossi, Anna; The registry group (2026). Example MS network: data warehouse release (release 2026-11-24.1)"
        " [Data set]. Example University. https://doi.org/10.1234/example"
    )


def test_no_identifier_and_no_licence_are_made_up() -> None:
    network = Network(name="Example")
    assert not {"doi", "license", "license-url"} & set(citation.cff(network, "2026-11-24.1", "2026-11-24"))
    data = citation.datacite(network, "2026-11-24.1", "2026-11-24")
    assert "doi" not in data and list(data["rightsList"][0]) == ["rights"]


@pytest.mark.parametrize(
    "wrong", [{"doi": "example"}, {"licence": "my own"}, {"creators": [{"name": "A", "orcid": "1"}]}]
)
def test_a_value_that_no_reader_would_take_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Network.model_validate({"citation": wrong})
