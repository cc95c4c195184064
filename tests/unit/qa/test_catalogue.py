"""The catalogue's pages say what the dictionary says."""

from qa.catalogue import FOLDER, PAGE, pages
from warehouse.dictionary import Rule, load_dictionary
from warehouse.dictionary.rules import KINDS, LEVELS


def test_the_pages_are_the_dictionary() -> None:
    made = pages()
    for name, text in made.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, "run: python -m qa.catalogue"
    assert {f"rules/{path.name}" for path in (FOLDER / "rules").glob("*.md")} == set(made) - {PAGE}


def test_every_rule_has_a_page_that_says_what_it_means_what_causes_it_and_who_acts() -> None:
    made = pages()
    for _, rule in load_dictionary().rules:
        page = made[f"rules/{rule.id}.md"]
        assert rule.text in page and rule.action in page and rule.source in page
        assert "**Usual cause**: " in page and "**Who acts**: " in page
        assert f"(rules/{rule.id}.md)" in made[PAGE]


def test_every_kind_is_told_and_has_a_level() -> None:
    kinds = set(Rule.model_fields["kind"].annotation.__args__)  # type: ignore[union-attr]
    assert set(KINDS) == kinds
    assert set(LEVELS) == kinds - {"query"}
