"""The one folder Ranvier works in, and the network it describes.

Here: where things lie in a home, and what `network.yaml` says. Not here: what is written into those places.
The layout is a contract that others script against.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from warehouse.errors import HomeError

SITE_CODE = re.compile(r"^[A-Z0-9][A-Z0-9_-]{1,15}$")
"""Site codes are upper case, so that a code can never be mistaken for a folder of another site on a case-blind disk."""
PROJECT_NAME = re.compile(r"^[a-z][a-z0-9_]{1,31}$")
"""A project's name is a file's name and a word in SQL."""


class Site(BaseModel):
    """One centre of the network."""

    model_config = ConfigDict(extra="forbid")

    code: str
    name: str = ""
    profile: str = "own_names"
    """Name of a source profile in `ingestion/profiles/`, or a path inside the home."""
    contact: str | None = None
    """Where the site's reports are mailed to."""

    @field_validator("code")
    @classmethod
    def _code(cls, value: str) -> str:
        if not SITE_CODE.match(value):
            raise ValueError(f"site code {value!r} must be 2-16 capital letters, digits, '-' or '_'")
        return value


class Imaging(BaseModel):
    """How image work is spread out."""

    model_config = ConfigDict(extra="forbid")

    scheduler: str | None = None
    """Address of a Dask scheduler; without one, local worker processes are started."""
    workers: int = Field(default=2, ge=1)
    """Local worker processes. A brain mask takes about 2 GB, and one is made at a time (see `qa.imaging.mask`)."""


class Creator(BaseModel):
    """Somebody who is named as an author of a release."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    """`Family, Given` of a person, or the name of an organisation."""
    orcid: str | None = Field(default=None, pattern=r"^\d{4}-\d{4}-\d{4}-\d{3}[\dX]$")
    is_person: bool = True


class Citation(BaseModel):
    """How releases are cited; see `warehouse.citation`."""

    model_config = ConfigDict(extra="forbid")

    title: str | None = None
    creators: list[Creator] = []
    """The network itself where nobody is named."""
    publisher: str | None = None
    """The network's name without one."""
    licence: str | None = Field(default=None, pattern=r"^[A-Za-z0-9.+-]+$")
    """SPDX identifier, such as CC-BY-4.0."""
    licence_url: str | None = Field(default=None, pattern=r"^https?://\S+$")
    terms: str | None = None
    """Conditions of use in words."""
    doi: str | None = Field(default=None, pattern=r"^10\.\d{4,9}/\S+$")
    """Only one that was registered; none is made up."""
    description: str | None = None


class ReleaseSettings(BaseModel):
    """What happens to releases."""

    model_config = ConfigDict(extra="forbid")

    publish: Literal["automatic", "manual"] = "automatic"
    """Whether a release that passed the gate becomes the current one by itself or by `ranvier release publish`."""
    keep: int | None = Field(default=None, ge=1)
    """How many releases are kept; all without it. The current one is always kept."""


class Gateway(BaseModel):
    """What `ranvier serve` allows. The defaults suit a network of tens of analysts on one machine."""

    model_config = ConfigDict(extra="forbid")

    open_needs_token: bool = False
    """Whether the tier `open` is for people with a token only."""
    requests_per_minute: int = Field(default=600, ge=1)
    """Of one person; somebody without a token has a fifth of it, by address."""
    queries_at_once: int = Field(default=4, ge=1)
    """Of one person. A further one is told to come back."""
    seconds: float = Field(default=60, gt=0, le=3600)
    """Longest a query may take."""
    rows: int = Field(default=5_000_000, ge=1)
    """Most rows of an answer."""
    processes_per_file: int = Field(default=3, ge=1)
    """Queries that run at once on one tier's file; others wait. A process takes up to 1 GB."""
    processes: int = Field(default=12, ge=1)
    """Over all files."""


class Mirror(BaseModel):
    """Limits of each user of the PostgreSQL mirror."""

    model_config = ConfigDict(extra="forbid")

    seconds: float = Field(default=60, gt=0)
    """How long a statement may take; the watchdog ends it then, whatever the user has set."""
    connections: int = Field(default=5, ge=1)
    """Connections at a time. DBeaver opens two or three."""


class Network(BaseModel):
    """What `network.yaml` holds. It never holds a secret."""

    model_config = ConfigDict(extra="forbid")

    name: str = "MS network"
    data_manager: str = "data-manager@example.org"
    """Sender of the site reports, and whom they tell to ask."""
    quiet_seconds: float = Field(default=30, ge=0)
    """A delivery without a `_COMPLETE` file counts as complete when nothing in it has changed for this long."""
    sites: list[Site] = []
    imaging: Imaging = Imaging()
    gateway: Gateway = Gateway()
    mirror: Mirror = Mirror()
    thresholds: dict[str, Any] = {}
    """Overrides of `qa/imaging/thresholds.yaml`, by threshold name."""
    releases: ReleaseSettings = ReleaseSettings()
    citation: Citation = Citation()
    policy: dict[str, Any] = {}
    """Overrides of `warehouse/policy/*.yaml`."""

    def site(self, code: str) -> Site:
        """The site with this code. Raises HomeError when the network has none."""
        for site in self.sites:
            if site.code == code:
                return site
        known = ", ".join(s.code for s in self.sites) or "none yet"
        raise HomeError(f"The network has no site {code!r} (known: {known}); add it with: ranvier site add {code}")


@dataclass(frozen=True)
class Home:
    """Paths of one home folder.

    Every path lies below `root`; nothing is written outside it.
    """

    root: Path

    @property
    def network_file(self) -> Path:
        return self.root / "network.yaml"

    @property
    def landing(self) -> Path:
        return self.root / "landing"

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    @property
    def releases(self) -> Path:
        return self.root / "releases"

    @property
    def current_release(self) -> Path:
        return self.releases / "current"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def outbox(self) -> Path:
        return self.root / "outbox"

    @property
    def audit(self) -> Path:
        return self.root / "audit"

    @property
    def access(self) -> Path:
        """Who may see what. For the gateway's account only."""
        return self.root / "access"

    @property
    def dagster(self) -> Path:
        return self.root / "dagster"

    @property
    def cache(self) -> Path:
        """What can be made again at any time: converted network weights, parsed dbt manifests, unpacked archives."""
        return self.lake / "cache"

    def folders(self) -> list[Path]:
        return [
            self.landing,
            self.lake,
            self.releases,
            self.reports,
            self.outbox,
            self.audit,
            self.dagster,
        ]

    def network(self) -> Network:
        """Read `network.yaml`.

        Raises
        ------
        HomeError
            There is no home here, or the file does not hold what a network needs; the text names the field.
        """
        try:
            raw = yaml.safe_load(self.network_file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise HomeError(f"{self.root} is not a Ranvier home; make one with: ranvier init {self.root}") from error
        except yaml.YAMLError as error:
            where = getattr(error, "problem_mark", None)
            line = f" line {where.line + 1}" if where else ""
            raise HomeError(f"{self.network_file}{line} is not valid YAML; correct it and try again") from error
        try:
            return Network.model_validate(raw or {})
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise HomeError(f"{self.network_file}: {field}: {first['msg']}") from error


def find_home(given: Path | None = None) -> Home:
    """The home given, else `RANVIER_HOME`, else the working folder. Does not check that it is one."""
    root = given or Path(os.environ.get("RANVIER_HOME") or ".")
    return Home(root.resolve())
