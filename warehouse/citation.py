"""How a release is cited: `CITATION.cff` and `datacite.json` beside its files, and one sentence for a paper.

Here: the two formats, filled from network.yaml. Not here: when they are written (`warehouse.releases`).
Sources: Citation File Format 1.2.0 (doi:10.5281/zenodo.5171937); DataCite Metadata Schema 4.5 in its JSON form
(doi:10.14454/g8e5-6293). No identifier is made up: there is one when network.yaml names it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from warehouse import lake
from warehouse.home import Network

CFF = "CITATION.cff"
DATACITE = "datacite.json"
NAMES = (CFF, DATACITE)
TERMS = "Access by tier, under the network's data use agreement; ask the data manager."


def _title(network: Network) -> str:
    return network.citation.title or f"{network.name}: data warehouse release"


def _creators(network: Network) -> list[tuple[str, str | None, bool]]:
    """(name, ORCID, whether it is a person); the network itself where nobody is named."""
    named = [(creator.name, creator.orcid, creator.is_person) for creator in network.citation.creators]
    return named or [(network.name, None, False)]


def _description(network: Network, version: str) -> str:
    return network.citation.description or (
        f"Release {version} of the data warehouse of {network.name}: pseudonymous registry tables and measures of image"
        " quality of people with multiple sclerosis, in one file per access tier."
    )


def _person(name: str, orcid: str | None) -> dict[str, str]:
    family, _, given = name.partition(",")
    person = {"family-names": family.strip()} | ({"given-names": given.strip()} if given.strip() else {})
    return person | ({"orcid": f"https://orcid.org/{orcid}"} if orcid else {})


def cff(network: Network, version: str, released: str) -> dict[str, Any]:
    """The content of `CITATION.cff`; `released` is a day, YYYY-MM-DD."""
    settings = network.citation
    content: dict[str, Any] = {
        "cff-version": "1.2.0",
        "type": "dataset",
        "message": "If you use this release, please cite it with the metadata from this file.",
        "title": _title(network),
        "abstract": f"{_description(network, version)} {settings.terms or TERMS}",
        "authors": [
            _person(name, orcid) if is_person else {"name": name} for name, orcid, is_person in _creators(network)
        ],
        "version": version,
        "date-released": released,
        "contact": [{"name": settings.publisher or network.name, "email": network.data_manager}],
        "keywords": ["multiple sclerosis", "registry", "magnetic resonance imaging", "quality control"],
    }
    if settings.licence:
        content["license"] = settings.licence
    if settings.licence_url:
        content["license-url"] = settings.licence_url
    if settings.doi:
        content["doi"] = settings.doi
    return content


def datacite(network: Network, version: str, released: str) -> dict[str, Any]:
    """The content of `datacite.json`, in the attribute form that DataCite's interface takes."""
    settings = network.citation
    rights = {"rights": settings.terms or TERMS}
    if settings.licence:
        rights |= {"rightsIdentifier": settings.licence, "rightsIdentifierScheme": "SPDX"}
    if settings.licence_url:
        rights["rightsUri"] = settings.licence_url
    creators: list[dict[str, Any]] = []
    for name, orcid, is_person in _creators(network):
        creator: dict[str, Any] = {"name": name, "nameType": "Personal" if is_person else "Organizational"}
        if is_person:
            person = _person(name, None)
            creator["familyName"] = person["family-names"]
            if "given-names" in person:
                creator["givenName"] = person["given-names"]
        if orcid:
            creator["nameIdentifiers"] = [
                {
                    "nameIdentifier": f"https://orcid.org/{orcid}",
                    "nameIdentifierScheme": "ORCID",
                    "schemeUri": "https://orcid.org",
                }
            ]
        creators.append(creator)
    content: dict[str, Any] = {
        "schemaVersion": "http://datacite.org/schema/kernel-4",
        "creators": creators,
        "titles": [{"title": _title(network), "lang": "en"}],
        "publisher": {"name": settings.publisher or network.name},
        "publicationYear": released[:4],
        "types": {"resourceTypeGeneral": "Dataset", "resourceType": "Data warehouse release"},
        "subjects": [{"subject": "multiple sclerosis"}, {"subject": "magnetic resonance imaging"}],
        "dates": [{"date": released, "dateType": "Created"}],
        "language": "en",
        "formats": ["application/vnd.duckdb"],
        "version": version,
        "rightsList": [rights],
        "descriptions": [{"description": _description(network, version), "descriptionType": "Abstract", "lang": "en"}],
    }
    if settings.doi:
        content["doi"] = settings.doi
    return content


def write(folder: Path, network: Network, version: str, released: str) -> None:
    """Write both files into a release's folder."""
    text = yaml.safe_dump(cff(network, version, released), sort_keys=False, allow_unicode=True, width=100)
    lake.write_bytes(folder / CFF, text.encode())
    lake.write_json(folder / DATACITE, datacite(network, version, released))


def sentence(folder: Path) -> str | None:
    """How to cite a release, from its `datacite.json`; None for a release that has none."""
    path = folder / DATACITE
    if not path.exists():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    authors = "; ".join(creator["name"] for creator in content["creators"])
    identifier = f" https://doi.org/{content['doi']}" if "doi" in content else ""
    return (
        f"{authors} ({content['publicationYear']}). {content['titles'][0]['title']} (release {content['version']})"
        f" [Data set]. {content['publisher']['name']}.{identifier}"
    )
