"""Classes that have become too small or too uniform are found with all their members."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from warehouse import gate
from warehouse.policy import load_policy


@pytest.fixture
def registered(tmp_path: Path) -> Path:
    """Twelve women of two courses, eleven men of two, and eleven people of unknown sex who have one course only."""
    path = tmp_path / "registered.duckdb"
    columns = ", ".join(f"null::varchar as {c}" for c in load_policy().rules["registered"].suppress_first if c != "sex")
    with duckdb.connect(str(path)) as db:
        db.execute(
            f"create table dim_subject as select 'sbj_' || sex || i as subject_key, sex, {columns},"
            " case when sex = 'U' or i % 2 = 0 then 'RRMS' else 'SPMS' end as disease_course"
            " from (values ('F', 12), ('M', 11), ('U', 11)) as t(sex, n), range(12) as r(i) where i < n"
        )
    return path


def test_members_of_small_and_of_uniform_classes_are_found(registered: Path) -> None:
    policy = load_policy()
    assert gate.in_small_classes("registered.duckdb", registered, policy, 11, 1) == set()
    assert gate.in_small_classes("registered.duckdb", registered, policy, 11, 2) == {f"sbj_U{i}" for i in range(11)}
    small = gate.in_small_classes("registered.duckdb", registered, policy, 12, 1)
    assert small == {f"sbj_{sex}{i}" for sex in "MU" for i in range(11)}
