"""k and l by pycanon, which is nobody's of ours: on a release that dbt built, and on random tables.

pycanon and the warehouse need different versions of pandas, so it runs in an environment of its own.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest
from network import Lake

from warehouse import releases
from warehouse.policy import load_policy

sys.path.insert(0, str(Path(__file__).parents[2] / "property" / "warehouse"))

from sql import macros

CODE = """
import json, sys
import pandas as pd
from pycanon import anonymity
answers = []
for job in json.load(sys.stdin):
    frame = pd.read_csv(job["path"], dtype=str, keep_default_na=False).reset_index(drop=True)
    answers.append([
        int(anonymity.k_anonymity(frame, job["quasi"])),
        int(anonymity.l_diversity(frame, job["quasi"], job["sensitive"])),
    ])
json.dump(answers, sys.stdout)
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def pycanon(request: pytest.FixtureRequest) -> Path:
    """Python of an environment with pycanon, made once in pytest's cache."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed, so pycanon's environment cannot be made")
    folder = request.config.cache.mkdir("pycanon") / "environment"  # type: ignore[union-attr]
    python = folder / "bin" / "python"
    for command in (
        [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(python), "pycanon==1.3.6"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"pycanon's environment cannot be made: {done.stderr.strip()[-200:]}")
    return python


def measure(python: Path, jobs: list[tuple[Path, list[str], list[str]]]) -> list[list[int]]:
    """(k, l) of each CSV file, by pycanon."""
    asked = [{"path": str(path), "quasi": quasi, "sensitive": sensitive} for path, quasi, sensitive in jobs]
    done = subprocess.run([python, "-c", CODE], input=json.dumps(asked), capture_output=True, text=True, check=True)
    answers: list[list[int]] = json.loads(done.stdout)
    return answers


def test_registered_is_as_anonymous_as_its_manifest_says(pycanon: Path, released: Lake, tmp_path: Path) -> None:
    folder = releases.release_folder(released.home)
    rule = load_policy().rules["registered"]
    target = tmp_path / "dim_subject.csv"
    with duckdb.connect(str(folder / "registered.duckdb"), read_only=True) as db:
        db.execute(f"copy (select * from dim_subject) to '{target}' (header, nullstr '(none)')")
    ((k, l),) = measure(pycanon, [(target, list(rule.suppress_first), list(rule.sensitive))])  # noqa: E741
    assert k >= rule.k
    assert l >= rule.l
    told = json.loads((folder / "manifest.json").read_text())["anonymity"]["registered.duckdb"]
    assert (told["k"], told["l"]["disease_course"]) == (k, l)


def test_random_tables(pycanon: Path, tmp_path: Path) -> None:
    chance = random.Random(4)
    quasi = ["diagnosis_year", "onset_year", "age_at_onset_band", "sex"]
    jobs, asked = [], []
    for number in range(30):
        k, l = chance.choice([2, 5, 11]), chance.choice([1, 2, 3])  # noqa: E741
        person = pl.DataFrame(
            [
                {
                    "subject_key": f"p{i}",
                    "diagnosis_year": (onset := chance.randrange(2000, 2000 + chance.choice([3, 25])))
                    + chance.randrange(3),
                    "onset_year": onset,
                    "age_at_onset_band": chance.choice(["20-29", "30-39", "30-39", "40-49", "70 or over"]),
                    "sex": chance.choice("FFFM"),
                    "disease_course": chance.choice(["RRMS"] * 8 + ["PPMS", "SPMS", "CIS"]),
                }
                for i in range(chance.choice([60, 400, 2000]))
            ]
        )
        steps = macros("anonymity").anonymity_steps(quasi, ["disease_course"], k, l)
        target = tmp_path / f"{number}.csv"
        with duckdb.connect() as db:
            db.register("person", person)
            db.execute(
                f"copy (with {steps} select * from anonymous where is_kept) to '{target}' (header, nullstr '(none)')"
            )
            assert pl.read_csv(target, infer_schema=False).height == person.height
        jobs.append((target, quasi, ["disease_course"]))
        asked.append((k, l))
    for (k, l), (reached_k, reached_l) in zip(asked, measure(pycanon, jobs), strict=True):  # noqa: E741
        assert reached_k >= k
        assert reached_l >= l
