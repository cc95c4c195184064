"""The degradation bench: how well the artefact scores tell each artefact from all the others, on real heads.

    python -m tests.bench.artefacts score FOLDER OUT.csv [NAME ...]
    python -m tests.bench.artefacts judge OUT.csv ... [--write]
    python -m tests.bench.artefacts draw PICTURE.png

FOLDER holds NIfTI heads `<person>_<contrast>[_3D].nii.gz`, scans and not averages. `score` writes one row for each
head, artefact and severity; `judge` fits one logistic model an artefact, leaving out all scans of one person at a time,
and prints AUC, rank correlation and the confusion matrix; `--write` puts the models of all heads into
`qa/imaging/artefacts.yaml`. `draw` shows each artefact at its visible severity on a phantom of the template's tissue.

Here: what is run and how it is counted. Not here: the degradations (`tests.bench.degrade`). Brain masks are those of
the sound heads: what is tested are the scores, not the brain mask.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw
from scipy import stats

from qa.imaging import likely, measure, pose
from qa.imaging.artefacts import in_plane_axes
from qa.imaging.mask import brain_mask
from qa.imaging.volume import load_volume
from tests.bench.degrade import ARTEFACTS, SEVERITIES, VISIBLE, Head, null
from tests.unit.qa.imaging.heads import phantom

NULLS = 3
MAIN = {
    "motion": "motion_smear_pct", "ghost": "ghost_pct", "wrap": "wrap_pct", "spike": "spike_ratio",
    "zipper": "zipper_pct", "low_snr": "noise_pct", "bias": "bias_cv_pct", "dropout": "dropout_pct",
    "blur": "edge_width", "cut_off": "cut_area_mm2",
}  # fmt: skip
BOOTSTRAPS = 1000
PENALTY = 0.3
TILE, COLUMNS = 136, 4


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def load_head(path: Path, cache: Path) -> tuple[Head, str, str]:
    """A head, its contrast and its dimension, as its file name says."""
    parts = path.name.removesuffix(".nii.gz").split("_")
    volume = load_volume(path)
    dimension = "3D" if "3D" in parts else "2D"
    brain = brain_mask(volume.data, cache)
    axes = in_plane_axes(volume, dimension)
    phase = 1 if 1 in axes else axes[0]
    return Head(volume, brain, phase, axes), parts[1], dimension


def scores_of(head: Head, contrast: str, dimension: str) -> dict[str, float]:
    """Every artefact score of a head, and the largest cut through its brain."""
    series = {"contrast": contrast, "acquisition_dimension": dimension}
    found = pose.coverage(head.volume, head.brain)
    where = pose.align(head.volume, head.brain, found)
    scores, _, _ = measure.artefact_scores(measure.look_at(head.volume, head.brain, series, found, where))
    result = {m.name: m.value for m in scores if m.value is not None}
    sides = {side: area for side, area in found.cut_area_mm2.items() if side != "inferior"}
    return result | {"cut_area_mm2": max(sides.values())}


def score(folder: Path, target: Path, names: list[str]) -> None:
    paths = sorted(p for p in folder.glob("*.nii.gz") if not names or p.name.removesuffix(".nii.gz") in names)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as cache:
        for path in paths:
            head, contrast, dimension = load_head(path, Path(cache))
            name = path.name.removesuffix(".nii.gz")
            for artefact, severity, amount in _plan():
                seed = zlib.crc32(f"{name} {artefact} {severity}".encode())
                spoilt = ARTEFACTS.get(artefact, null)(head, amount, np.random.default_rng(seed))
                told = {"head": name, "person": name.split("_")[0], "artefact": artefact, "severity": severity}
                rows.append(told | scores_of(spoilt, contrast, dimension))
                say(f"{name} {artefact} {severity}")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with target.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, columns)
        writer.writeheader()
        writer.writerows(rows)


def _plan() -> list[tuple[str, int, float]]:
    planned = [("null", number, 0.0) for number in range(1, NULLS + 1)]
    for artefact, amounts in SEVERITIES.items():
        planned += [(artefact, number, amount) for number, amount in enumerate(amounts, start=1)]
    return planned


def read(paths: list[Path]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for path in paths:
        with path.open(newline="") as handle:
            for row in csv.DictReader(handle):
                texts = ("head", "person", "artefact")
                rows.append({k: v if k in texts else float(v) if v else np.nan for k, v in row.items()})
    return rows


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties counted half."""
    above = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return float(above)


def fit(rows: list[dict[str, Any]], artefact: str) -> likely.Model:
    """The logistic model of one artefact: visible and worse against nulls and every other artefact that is visible."""
    from sklearn.linear_model import LogisticRegression

    names = likely.FEATURES[artefact]
    chosen = [r for r in rows if r["artefact"] != artefact or r["severity"] >= VISIBLE]
    x = np.array([[likely.scaled(r[n]) for n in names] for r in chosen])
    y = np.array([r["artefact"] == artefact for r in chosen])
    middle, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    model = LogisticRegression(C=PENALTY, class_weight="balanced").fit((x - middle) / spread, y)
    weights = model.coef_[0] / spread
    intercept = float(model.intercept_[0] - weights @ middle)
    return likely.Model(intercept, dict(zip(names, map(float, weights), strict=True)))


def judge(rows: list[dict[str, Any]]) -> None:
    """Print, for each artefact, the figures with every person left out in turn."""
    people = sorted({r["person"] for r in rows})
    say(f"{len({r['head'] for r in rows})} scans of {len(people)} people, {len(rows)} images")
    probability: dict[str, np.ndarray] = {}
    for artefact in likely.FEATURES:
        values = np.empty(len(rows))
        for person in people:
            model = fit([r for r in rows if r["person"] != person], artefact)
            for number, row in enumerate(rows):
                if row["person"] == person:
                    values[number] = model.probability(row)
        probability[artefact] = values
    say("| artefact | AUC of the score | AUC of the probability | 95 % by head | Spearman with severity |")
    say("|---|---|---|---|---|")
    for artefact, main in MAIN.items():
        say(_line(rows, artefact, main, probability.get(artefact)))
    _confusion(rows, probability)


def _line(rows: list[dict[str, Any]], artefact: str, main: str, probability: np.ndarray | None) -> str:
    scores = np.array([r[main] for r in rows])
    here = np.array([r["artefact"] == artefact and r["severity"] == VISIBLE for r in rows])
    seen = [r["severity"] == VISIBLE or r["artefact"] == "null" for r in rows]
    other = np.array([r["artefact"] != artefact and is_seen for r, is_seen in zip(rows, seen, strict=True)])
    told = scores if probability is None else probability
    people = np.array([r["person"] for r in rows])
    random = np.random.default_rng(0)
    found = []
    for _ in range(BOOTSTRAPS):
        drawn = random.choice(np.unique(people), len(np.unique(people)))
        index = np.concatenate([np.flatnonzero(people == p) for p in drawn])
        found.append(auc(told[index][here[index]], told[index][other[index]]))
    low, high = np.percentile(found, [2.5, 97.5])
    ranks = []
    for head in {r["head"] for r in rows}:
        mine = np.array([r["head"] == head and r["artefact"] == artefact for r in rows])
        ranks.append(stats.spearmanr([r["severity"] for r, m in zip(rows, mine, strict=True) if m], scores[mine])[0])
    second = "-" if probability is None else f"{auc(told[here], told[other]):.2f}"
    first = auc(scores[here], scores[other])
    return f"| {artefact} | {first:.2f} | {second} | {low:.2f}-{high:.2f} | {np.nanmean(ranks):.2f} |"


def _confusion(rows: list[dict[str, Any]], probability: dict[str, np.ndarray]) -> None:
    """Visible artefacts against the artefact whose probability is highest, 'none' below one half."""
    names = [*probability, "none"]
    say("\n| planted | " + " | ".join(names) + " |")
    say("|---" * (len(names) + 1) + "|")
    for planted in [*probability, "null"]:
        counts = dict.fromkeys(names, 0)
        for number, row in enumerate(rows):
            if row["artefact"] == planted and (row["severity"] == VISIBLE or planted == "null"):
                best = max(probability, key=lambda a: probability[a][number])
                counts[best if probability[best][number] >= 0.5 else "none"] += 1
        say(f"| {planted} | " + " | ".join(str(counts[n]) for n in names) + " |")


def write(rows: list[dict[str, Any]]) -> None:
    """Fit on all heads and replace the models in `artefacts.yaml`, its comment kept."""
    path = Path(likely.__file__).parent / "artefacts.yaml"
    comment = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    content = {}
    for artefact in likely.FEATURES:
        model = fit(rows, artefact)
        weights = {name: round(weight, 4) for name, weight in model.weights.items()}
        content[artefact] = {"intercept": round(model.intercept, 4), "weights": weights}
    path.write_text(comment + yaml.safe_dump(content, sort_keys=False))


def draw(target: Path) -> None:
    """One axial slice of the phantom for each artefact, the sound one first; three rows."""
    made = phantom(noise=10)
    head = Head(made.volume, made.brain, 1, (0, 1, 2))
    tiles = []
    for artefact in ("null", *SEVERITIES):
        amount = SEVERITIES[artefact][VISIBLE - 1] if artefact in SEVERITIES else 0.0
        data = ARTEFACTS.get(artefact, null)(head, amount, np.random.default_rng(1)).volume.data
        plane = data[data.shape[0] // 2] if artefact == "cut_off" else data[:, :, data.shape[2] // 2]
        tile = np.zeros((TILE, TILE), np.uint8)
        shown = np.clip(plane[:TILE, :TILE] / head.level * 170, 0, 255).astype(np.uint8).T[::-1]
        tile[TILE - shown.shape[0] :, : shown.shape[1]] = shown
        picture = Image.fromarray(tile)
        ImageDraw.Draw(picture).text((3, 2), "sound" if artefact == "null" else artefact, fill=255)
        tiles.append(np.asarray(picture))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[number : number + COLUMNS]) for number in range(0, len(tiles), COLUMNS)]
    Image.fromarray(np.vstack(rows)).save(target, optimize=True)


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["draw"]:
        draw(Path(arguments[1]))
        return
    if arguments[:1] == ["score"]:
        score(Path(arguments[1]), Path(arguments[2]), arguments[3:])
        return
    rows = read([Path(a) for a in arguments[1:] if a != "--write"])
    judge(rows)
    if "--write" in arguments:
        write(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
