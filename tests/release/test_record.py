"""What is kept of a release, and what histories must reach."""

import json
import shutil
from pathlib import Path

import pytest

from cli.release.record import record_release
from cli.release.releases import HISTORIES, ROOT, Release, accepted, is_accepted, kept_histories, latest, releases
from temporal.versions import SAGA
from tests.replay.reached import function_at


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """With what a release is made of, and two histories."""
    for name in (*SAGA, "chassis"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, tmp_path / name)
    for folder in ("", "local"):
        (tmp_path / HISTORIES / folder).mkdir(parents=True, exist_ok=True)
        for name in ("confirmed", "cancelled"):
            shutil.copy(ROOT / HISTORIES / folder / f"{name}.json", tmp_path / HISTORIES / folder)
    return tmp_path


def test_a_release_is_recorded_once(tree: Path) -> None:
    assert record_release("one", root=tree) == 2
    assert record_release("1.0.0", root=tree) == 0
    release = Release(tree / "releases" / "1.0.0")
    assert release.document("surface")["facts"]["search_attributes"]["OrderStatus"] == "Keyword"
    assert release.document("openapi")["paths"]["/api/v1/orders"]
    assert release.document("asyncapi")["channels"]["order-events"]["messages"]["OrderConfirmed"]
    assert release.worker.read_bytes()[:2] == b"PK"
    assert [kept.name for kept in kept_histories(tree)] == ["cancelled", "confirmed"], "each once"
    before = release.worker.stat().st_mtime_ns
    assert record_release("1.0.0", root=tree) == 1
    assert release.worker.stat().st_mtime_ns == before
    assert record_release("1.0.0", force=True, root=tree) == 0
    (tree / HISTORIES / "confirmed.json").write_text(json.dumps({"events": []}))
    assert [kept.name for kept in kept_histories(tree)] == ["cancelled", "confirmed", "confirmed"]


def test_the_newest_release_is_the_last_by_its_number(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        latest(tmp_path)
    for version in ("1.10.0", "1.9.1", "1.10.0-rc.1", "not-a-version"):
        (tmp_path / "releases" / version).mkdir(parents=True)
    assert [release.version for release in releases(tmp_path)] == ["1.9.1", "1.10.0-rc.1", "1.10.0"]
    assert latest(tmp_path).version == "1.10.0"


def test_what_is_accepted_is_named_by_where_it_is_or_in_full(tmp_path: Path) -> None:
    assert accepted(tmp_path) == {}
    (tmp_path / "releases").mkdir()
    file = tmp_path / "releases" / "accepted.toml"
    file.write_text('[[accepted]]\nchange = "activity Pay argument.code"\nwhy = "Nobody reads it."\n')
    reasons = accepted(tmp_path)
    assert reasons == {"activity Pay argument.code": "Nobody reads it."}
    assert is_accepted("activity Pay argument.code: removed", reasons)
    assert not is_accepted("activity Pay argument.codes: removed", reasons)
    assert not is_accepted("activity Pay argument: removed", reasons)


def test_the_function_of_a_line() -> None:
    code = "class Saga:\n    def run(self):\n        def on_slow():\n            pass\n        return on_slow\n\nX = 1\n"
    assert [function_at(code, line) for line in (4, 5, 7)] == ["Saga.run.on_slow", "Saga.run", ""]
