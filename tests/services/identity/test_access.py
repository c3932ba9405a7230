"""Who may what with accounts: everything, asked by everybody."""

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

from pydantic import SecretStr

from chassis.clock import utc_now
from chassis.database import Database
from contracts.identity import Role
from services.identity.app import IdentitySettings, build
from services.identity.model import Session, User
from services.identity.passwords import Passwords
from tests.access import Rows, assert_access
from tests.conftest import TokenMint, changing, running_api
from tests.services.identity.conftest import PASSWORD


async def test_everybody_may_what_the_table_says(
    database: Database, passwords: Passwords, settings: Callable[..., IdentitySettings], mint: TokenMint
) -> None:
    password_hash = await passwords.hash(SecretStr(PASSWORD))

    def account(*roles: Role) -> User:
        return User(email=f"{uuid4().hex}@example.com", name="Ada", password_hash=password_hash, roles=list(roles))

    anybody_else = account(*Role)
    async with changing(database) as work:
        work.add(anybody_else)

    async def a_customer_who_is_logged_in() -> Rows:
        customer = account(Role.CUSTOMER)
        tomorrow = utc_now() + timedelta(days=1)
        login, other_login = [Session(user_id=user.user_id, expires_at=tomorrow) for user in (customer, anybody_else)]
        async with changing(database) as work:
            work.add(customer, login, other_login)
        values = {"user_id": str(customer.user_id), "session_id": str(login.session_id), "current_password": PASSWORD}
        values |= {"refresh_token": "none", "email": f"{uuid4().hex}@example.com"}
        return Rows(values, owner=customer.user_id, anybody_else=anybody_else.user_id, login=other_login.session_id)

    async with running_api(build(settings(database.url)), mint) as client:
        await assert_access("identity", client, mint, a_customer_who_is_logged_in)
