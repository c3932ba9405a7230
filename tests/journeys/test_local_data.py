"""What a platform on a laptop leaves on its disk."""

import os
import stat

from testing.stage import Stage


async def test_g10_nobody_else_reads_the_data_of_a_running_platform(stage: Stage) -> None:
    await stage.placed()  # so that every service and every outside company has written something
    data = stage.platform.data_dir
    files = {path: path.lstat() for path in (data, *data.rglob("*")) if path.exists()}

    seen = {path.relative_to(data).parts[0] for path in files if path != data}
    assert {"env.json", "secrets.json", "lock", "ports.json", "logs", "postgres", "valkey", "temporal", "simulators"} <= seen
    readable = {str(path.relative_to(data)): oct(status.st_mode) for path, status in files.items() if status.st_mode & 0o066}
    assert readable == {}
    passable = {path for path, status in files.items() if stat.S_ISDIR(status.st_mode) and status.st_mode & 0o011}
    assert passable <= ({data, data / "postgres"} if os.geteuid() == 0 else set())  # there PostgreSQL is another user
    assert not [path for path, status in files.items() if stat.S_ISREG(status.st_mode) and status.st_mode & 0o011]
