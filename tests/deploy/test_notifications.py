"""docs/notifications.md: it has the tables of who is told what."""

from cli.notifications import tables
from tests.deploy.platform import ROOT


def test_the_page_has_the_tables() -> None:
    page = (ROOT / "docs" / "notifications.md").read_text()
    assert page.endswith(f"\n\n{tables()}"), "put what `commerce notifications` prints at its end"
