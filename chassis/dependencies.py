"""What endpoints take from their application."""

from typing import Annotated

from fastapi import Depends, Request

from chassis.database import Database


async def database_of(request: Request) -> Database:
    """The service's database, as its app.py put it into `app.state.database`."""
    database: Database = request.app.state.database
    return database


Db = Annotated[Database, Depends(database_of)]
