"""docs/access.md: it says what the services' access tables say."""

from cli.access import page
from tests.deploy.platform import ROOT


def test_the_page_is_that_of_the_tables() -> None:
    assert (ROOT / "docs" / "access.md").read_text() == page(), "run `commerce access > docs/access.md`"
