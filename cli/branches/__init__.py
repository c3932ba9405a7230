"""Every branch of the sagas of orders and returns, as it is played to be recorded (cli/histories.py): what a customer, an
operator, a carrier or a failing service does to one of them."""

from collections.abc import Mapping

from cli.branches.amending import AMENDED
from cli.branches.capture import AT_DISPATCH
from cli.branches.confirming import TO_CONFIRM
from cli.branches.one_parcel import ONE_PARCEL
from cli.branches.parts import IN_SEVERAL
from cli.branches.replacing import REPLACING
from cli.branches.returns import RETURNS
from cli.branches.stage import WITHIN_S, Branch, Stage
from cli.branches.units import SOME_UNITS

__all__ = ["BRANCHES", "RETURNS", "WITHIN_S", "Branch", "Stage"]

BRANCHES: Mapping[str, Branch] = {
    **ONE_PARCEL,
    **IN_SEVERAL,
    **TO_CONFIRM,
    **SOME_UNITS,
    **AT_DISPATCH,
    **AMENDED,
    **REPLACING,
}
