"""The catalogue page says what the dictionary says."""

from qa.catalogue import KINDS, PAGE, checks_page
from warehouse.dictionary import Rule, load_dictionary


def test_the_page_is_the_dictionary() -> None:
    assert PAGE.read_text(encoding="utf-8") == checks_page(), "run: python -m qa.catalogue"


def test_every_rule_and_every_kind_has_an_entry() -> None:
    page = checks_page()
    assert all(f"\n### {rule.id}\n" in page for _, rule in load_dictionary().rules)
    assert set(KINDS) == set(Rule.model_fields["kind"].annotation.__args__)  # type: ignore[union-attr]
