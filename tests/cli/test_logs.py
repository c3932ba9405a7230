"""`commerce logs ORDER` on files as the processes write them."""

import asyncio
import json
import signal
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from typer.testing import CliRunner

from cli.logs import LOOK_BACK, show_logs
from cli.main import app
from tests.conftest import PATIENCE_S, ROOT

ORDER, OTHER = str(uuid4()), str(uuid4())
TRACE, OTHER_TRACE = "a" * 32, "b" * 32
MEGABYTE = 1_000_000


def line(at: str, service: str, action: str, *, trace: str | None = TRACE, **more: Any) -> str:
    fields = {
        "@timestamp": f"2026-01-01T{at}Z",
        "log.level": "info",
        "message": action.replace("_", " "),
        "service.name": service,
        "event.action": action,
        **({"trace.id": trace} if trace else {}),
        **more,
    }
    return json.dumps(fields, separators=(",", ":"))


def write(data: Path, **files: Sequence[str]) -> Path:
    (data / "logs").mkdir(exist_ok=True)
    for name, lines in files.items():
        (data / "logs" / f"{name}.log").write_text("".join(f"{line}\n" for line in lines))
    return data


def shown(data: Path, *options: str, order: str = ORDER) -> list[str]:
    result = CliRunner().invoke(app, ["logs", order, "--data", str(data), *options])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    of_order: dict[str, Any] = {"labels.order_id": ORDER}
    request: dict[str, Any] = {"url.path": "/api/v1/orders", "event.duration": 1_500_000}
    return write(
        tmp_path,
        gateway=[
            "[info] Envoy says something that is no JSON",
            line("10:00:02.000", "gateway", "request", trace=OTHER_TRACE, **{"url.path": "/api/v1/orders"}),
            # It is written at the end of the request, with the time of its beginning.
            line("10:00:00.000", "gateway", "request", **request),
        ],
        order=[
            line("10:00:00.100", "order", "order_created", **of_order),
            line("10:00:00.200", "order", "order_created", trace=OTHER_TRACE, **{"labels.order_id": OTHER}),
            line("10:00:03.000", "order", "refused", **{"labels.code": "out_of_stock", "log.level": "warning"}),
        ],
        shipping=[line("11:00:00.000", "shipping", "shipment_dispatched", trace="c" * 32, **of_order)],
        kafka=["", "{", '{"order":"' + ORDER + '"}', "\x00\xff"],
    )


def test_lines_of_all_processes_by_time(data: Path) -> None:
    found = [row.split()[:3] for row in shown(data)]
    assert found == [
        ["10:00:00.000", "gateway", "request"],
        ["10:00:00.100", "order", "order_created"],
        ["10:00:03.000", "order", "WARNING"],
        ["11:00:00.000", "shipping", "shipment_dispatched"],
    ]
    assert "1.5ms" in shown(data)[0]
    assert "code=out_of_stock" in shown(data)[2]


def test_json_gives_the_lines_as_they_are(data: Path) -> None:
    raw = (data / "logs" / "order.log").read_text().splitlines()
    found = shown(data, "--json")
    assert raw[0] in found
    assert raw[1] not in found
    assert len(found) == 4


def test_it_says_if_there_is_nothing(data: Path, tmp_path: Path) -> None:
    unknown = CliRunner().invoke(app, ["logs", str(uuid4()), "--data", str(data)])
    assert unknown.exit_code == 1
    assert "says anything of order" in unknown.output
    nowhere = CliRunner().invoke(app, ["logs", ORDER, "--data", str(tmp_path / "nowhere")])
    assert nowhere.exit_code == 2
    assert "no platform has run" in nowhere.output


def test_what_somebody_wrote_does_not_steer_the_terminal(tmp_path: Path) -> None:
    write(tmp_path, order=[line("10:00:00.000", "order", "x", **{"labels.order_id": ORDER, "labels.by": "\x1b[2Jgone\nnext"})])
    (row,) = shown(tmp_path)
    assert "\x1b" not in row


def test_large_files_need_little_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """30 MB of lines, a tenth of them of the order."""
    filler = "x" * 250
    lines = [
        line(f"{n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}.000", "order", "step_done", trace=None)[:-1]
        + f',"labels.order_id":"{OTHER if n % 10 else ORDER}","labels.x":"{filler}"}}'
        for n in range(70_000)
    ]
    write(tmp_path, order=lines)
    size = (tmp_path / "logs" / "order.log").stat().st_size
    assert size > 25 * MEGABYTE
    del lines
    tracemalloc.start()
    try:
        show_logs(tmp_path, UUID(ORDER), follow=False, as_json=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    out = capsys.readouterr().out
    assert out.count("\n") == 7_000
    assert peak - 2 * len(out) < 3_000 * LOOK_BACK  # what was printed is kept by the test


async def test_following_shows_what_comes(data: Path) -> None:
    command = (sys.executable, "-m", "cli.main", "logs", ORDER, "--follow", "--data", str(data))
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    try:
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(4):
                await process.stdout.readline()
            with (data / "logs" / "worker.log").open("a") as worker:
                new = line("12:00:00.000", "worker", "step_done", trace="d" * 32, **{"labels.order_id": ORDER})
                worker.write(new[:50])
                worker.flush()
                worker.write(new[50:] + "\n")
            assert b"step_done" in await process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
