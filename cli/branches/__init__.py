"""Every branch of the order saga, as it is played to be recorded (cli/histories.py): what a customer, an operator, a carrier or a
failing service does to one order."""

from collections.abc import Mapping

from cli.branches.capture import AT_DISPATCH
from cli.branches.one_parcel import ONE_PARCEL
from cli.branches.parts import IN_SEVERAL
from cli.branches.stage import WITHIN_S, Branch, Stage

__all__ = ["BRANCHES", "WITHIN_S", "Branch", "Stage"]

BRANCHES: Mapping[str, Branch] = {**ONE_PARCEL, **IN_SEVERAL, **AT_DISPATCH}
