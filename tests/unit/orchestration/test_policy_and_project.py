"""`ranvier policy` and `ranvier project`: what is printed, what is written, what is refused with a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from orchestration.cli import main


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    network = {"name": "Test", "sites": [{"code": "AA", "contact": "a@b.example"}], "policy": {"k": 15}}
    (tmp_path / "network.yaml").write_text(yaml.safe_dump(network))
    monkeypatch.setenv("RANVIER_HOME", str(tmp_path))
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_show_tells_each_column_and_why(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("policy", "show", "registered", "--json") == 0
    told = json.loads(capsys.readouterr().out)["tiers"]["registered"]
    column = next(c for c in told["columns"] if (c["table"], c["column"]) == ("dim_subject", "onset_year"))
    assert column["what_becomes_of_it"] == "year only; emptied until k = 15, l = 2"
    assert column["class"] == "quasi"
    assert run("policy", "show") == 0
    assert "Presets: default, hcp, opensafely" in capsys.readouterr().out


def test_apply_keeps_every_value_and_says_what_changes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("policy", "apply", "hcp") == 0
    told = capsys.readouterr().out
    (lost,) = [line for line in told.splitlines() if line.strip().startswith("registered: fct_treatment loses ")]
    assert {"dmt", "stop_reason"} <= set(lost.rstrip(".").split(" loses ")[1].split(", "))
    assert yaml.safe_load((home / "network.yaml").read_text()) == {
        "name": "Test",
        "sites": [{"code": "AA", "contact": "a@b.example"}],
        "policy": {"k": 15, "preset": "hcp"},
    }
    assert run("policy", "apply", "hcp") == 0
    assert "nothing changes" in capsys.readouterr().out


def test_an_unknown_preset_changes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (home / "network.yaml").read_text()
    assert run("policy", "apply", "hpc") == 2
    assert "there are default, hcp, opensafely" in capsys.readouterr().err
    assert (home / "network.yaml").read_text() == before


def test_diff_takes_presets_files_and_the_current_policy(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = home / "own.yaml"
    own.write_text("{name: own, description: d, source: s, rounding: 10}")
    assert run("policy", "diff", "default", str(own)) == 0
    assert capsys.readouterr().out == "open: counts are rounded to 10, instead of 5.\n"
    assert run("policy", "diff", "default") == 0
    assert "registered: k is 15, instead of 11." in capsys.readouterr().out
    assert run("policy", "diff", "missing.yaml") == 2


def test_projects_are_added_listed_and_closed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("project", "add", "fatigue", "--scope", "share_research", "--scope", "imaging", "--until", "2999-12-31")
    assert run(*asked) == 0
    assert run(*asked) == 2
    assert run("project", "add", "x1", "--scope", "share_research", "--until", "soon") == 2
    assert "2027-12-31" in capsys.readouterr().err
    assert run("project", "close", "fatigue") == 0
    capsys.readouterr()
    assert run("project", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "name": "fatigue",
            "scope": ["share_research", "imaging"],
            "until": "2999-12-31",
            "state": "closed",
            "title": "",
        }
    ]
