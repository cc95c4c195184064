"""The fictional centres of the simulated network: their scanners, protocols and habits.

Here: what tells one centre from another. Not here: patients (`registry`), heads (`anatomy`) or what goes wrong
(`faults`). Every name, address and identifier is made up; addresses end in `.example`, which nobody can own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from warehouse.home import Site


@dataclass(frozen=True)
class Protocol:
    """One sequence of a scanner. Times in ms, angle in degrees, lengths in mm; values as vendors' manuals give them."""

    description: str
    sequence: str
    repetition_ms: float
    echo_ms: float
    inversion_ms: float
    flip_deg: float
    train: int
    scanning: tuple[str, ...]
    variant: tuple[str, ...]
    matrix: tuple[int, int]
    """Rows, columns."""
    pixel_mm: float
    slices: int
    slice_mm: float
    dimension: str = "3D"
    noise_pct: float = 2.5
    """Noise in percent of the brightest brain tissue."""


@dataclass(frozen=True)
class Scanner:
    """A magnet with its two protocols and the marks it leaves in a header."""

    vendor: str
    manufacturer: str
    model: str
    software: str
    serial: str
    station: str
    field_t: float
    plane: str
    """`sagittal` or `axial`: how the slices lie."""
    bias: float
    """Strength of the coil's shading; 0.1 is weak."""
    full_scale: int
    """The stored value of signal 1."""
    protocols: dict[str, Protocol]
    table: tuple[int, int, str, str] | None
    """Where it states its table position: group, element in the creator's block, creator, value representation."""
    private_name: tuple[int, int, str]
    """Where it is seen to leave a name: group, element in the creator's block, creator."""
    isocentre_known: bool = False
    """Whether an offset from the isocentre can be told from its headers at all."""


@dataclass(frozen=True)
class Centre:
    """One simulated site. `files` says which file, and sheet of a workbook, holds an entity."""

    site: Site
    scanner: Scanner
    languages: str
    """Which pool of names its patients have."""
    id_pattern: str
    """Patient identifier; `{n}` is the patient's number."""
    delivery: str
    image_folder: str
    """Folder of a series in a delivery: `{patient}`, `{study}` and `{series}` are filled in."""
    image_file: str
    files: dict[str, str] = field(default_factory=dict)
    sheets: dict[str, str] = field(default_factory=dict)
    second_delivery: str | None = None


def _mprage(name: str, sequence: str, tr: float, te: float, ti: float, flip: float, **shape: object) -> Protocol:
    start = Protocol(name, sequence, tr, te, ti, flip, 1, ("GR", "IR"), ("SK", "SP", "MP"), (256, 240), 1.0, 176, 1.1)
    return replace(start, **shape)  # type: ignore[arg-type]


def _flair(name: str, sequence: str, tr: float, te: float, ti: float, flip: float, **shape: object) -> Protocol:
    start = Protocol(
        name,
        sequence,
        tr,
        te,
        ti,
        flip,
        200,
        ("SE", "IR"),
        ("SK", "SP", "MP"),
        (256, 240),
        1.0,
        160,
        1.2,
        noise_pct=3.0,
    )
    return replace(start, **shape)  # type: ignore[arg-type]


_SIEMENS_TABLE = (0x0019, 0x14, "SIEMENS MR HEADER", "IS")
_SIEMENS_NAME = (0x0051, 0x21, "SIEMENS MR HEADER")

_MILANO = Centre(
    Site(
        code="MILANO",
        name="Centro Sclerosi Multipla Porta Ticinella, Milano",
        profile="sim_milano",
        contact="registro@porta-ticinella.example",
    ),
    Scanner(
        "Siemens", "SIEMENS", "Prisma", "syngo MR E11", "901101", "MRCSIM01", 3.0, "sagittal", 0.12, 420,
        {
            "T1w": _mprage("t1_mprage_sag_p2_iso", "*tfl3d1_16ns", 2300, 2.98, 900, 9),
            "FLAIR": _flair("t2_space_flair_sag_p2", "*spcir_282ns", 5000, 389, 1800, 120),
        },
        _SIEMENS_TABLE, _SIEMENS_NAME, True,
    ),
    "italian", "MI-{n:04d}", "2026-09_invio", "immagini/{patient}/{study}/{series}", "IM{i:04d}.dcm",
    {
        "patient": "anagrafica.csv", "visit": "visite.csv", "relapse": "ricadute.csv",
        "treatment": "terapie.csv", "mri_session": "risonanze.csv", "consent": "consensi.csv",
    },
    second_delivery="2026-10_invio",
)  # fmt: skip

_BRNO = Centre(
    Site(
        code="BRNO",
        name="RS centrum Na Vlnách, Brno",
        profile="sim_brno",
        contact="registr@na-vlnach.example",
    ),
    Scanner(
        "Philips", "Philips Medical Systems", "Ingenia", "5.4.1", "42107", "PHSIM", 3.0, "sagittal", 0.06, 900,
        {
            "T1w": _mprage("sT1W_3D_TFE", "T1TFE", 8.2, 3.8, 950, 8, train=240, slices=170, scanning=("GR",),
                           variant=("MP",)),
            "FLAIR": _flair("sag 3D FLAIR", "TSEIR", 4800, 320, 1650, 90, train=182, scanning=("SE",),
                            variant=("SK", "OSP")),
        },
        (0x2005, 0x3C, "Philips MR Imaging DD 005", "FL"), (0x2001, 0xC8, "Philips Imaging DD 001"),
    ),
    "czech", "RS{n:05d}", "2026_zari", "DICOM/{patient}/{series}", "I{i}",
    {
        "patient": "pacienti.csv", "visit": "kontroly.csv", "relapse": "ataky.csv",
        "treatment": "lecba.csv", "mri_session": "mr.csv", "consent": "souhlasy.csv",
    },
)  # fmt: skip

_LYON = Centre(
    Site(
        code="LYON",
        name="Clinique de la Colline aux Tilleuls, Lyon",
        profile="sim_lyon",
        contact="registre@colline-tilleuls.example",
    ),
    Scanner(
        "Siemens", "Siemens Healthineers", "MAGNETOM Vida", "syngo MR XA31", "175203", "MRVSIM02", 3.0, "sagittal",
        0.10, 380,
        {
            "T1w": _mprage("t1_mprage_sag", "*tfl3d1_16ns", 2100, 2.4, 880, 8, pixel_mm=1.05, slices=160, slice_mm=1.2),
            "FLAIR": _flair("t2_spc_dark-fluid_sag", "*spcir_278ns", 5000, 393, 1650, 120),
        },
        _SIEMENS_TABLE, _SIEMENS_NAME, True,
    ),
    "french", "LY{n:04d}", "envoi_2026T3", "IRM/{patient}/{series}", "{i:05d}.IMA",
    dict.fromkeys(("patient", "visit", "relapse", "treatment", "mri_session", "consent"), "registre_sep.xlsx"),
    {
        "patient": "Patients", "visit": "Consultations", "relapse": "Poussées",
        "treatment": "Traitements", "mri_session": "IRM", "consent": "Consentements",
    },
)  # fmt: skip

_LEEDS = Centre(
    Site(
        code="LEEDS",
        name="Airedale Bridge MS Service, Leeds",
        profile="sim_leeds",
        contact="registry@airedale-bridge.example",
    ),
    Scanner(
        "GE", "GE MEDICAL SYSTEMS", "SIGNA Premier", "29\\LX\\MR29.1", "RX3307", "GESIM", 3.0, "axial", 0.08, 2600,
        {
            "T1w": _mprage("Ax 3D T1 BRAVO", "BRAVO", 8.5, 3.2, 450, 12, matrix=(256, 224), pixel_mm=0.95, slices=190,
                           slice_mm=1.2, variant=("SS", "SP", "MP"), noise_pct=3.0),
            "FLAIR": _flair("Ax CUBE T2 FLAIR", "3DFSE", 6300, 130, 1730, 90, train=160, matrix=(256, 224),
                            pixel_mm=0.95, slices=180, slice_mm=1.2, variant=("SS", "SK")),
        },
        (0x0043, 0xB2, "GEMS_PARM_01", "DS"), (0x0009, 0x02, "GEMS_IDEN_01"),
    ),
    "english", "LDS/{n:03d}", "2026-09-export", "scans/{study}/{series}", "image{i:04d}.dcm",
    {
        "patient": "demographics.csv", "visit": "clinic_visits.csv", "relapse": "relapses.csv",
        "treatment": "dmt.csv", "mri_session": "mri_reports.csv", "consent": "consent.csv",
    },
)  # fmt: skip

CENTRES = (_MILANO, _BRNO, _LYON, _LEEDS)


def centres(count: int) -> list[Centre]:
    """The first `count` sites. Beyond four, sites come again with a number after their code and serial numbers."""
    found = []
    for i in range(count):
        base, turn = CENTRES[i % len(CENTRES)], i // len(CENTRES)
        if turn:
            site = base.site.model_copy(update={"code": f"{base.site.code}{turn + 1}"})
            base = replace(base, site=site, scanner=replace(base.scanner, serial=f"{base.scanner.serial}{turn}"))
        found.append(base)
    return found
