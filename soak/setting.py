"""What a run consists of: its files, its accounts, and the positions on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from poslock import PaperExchange
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    from poslock.position import Number

_MOST_ACCOUNTS = 10
_PER_ACCOUNT = 4  # at least, so that few positions have accounts of several kinds too
SETTLES_WITHIN = 0.6


@dataclass(frozen=True, slots=True)
class Kind:
    """What an account trades, how much of it a market order may find at once, and what blocks one.

    ``rounds`` says how its bots are told times: -1 for whole seconds rounded down, 1 for up, 0 for milliseconds.
    """

    hedge: bool
    inverse: bool
    contract_size: Number
    settle: str
    liquidity: Number
    blocks_covered: bool
    rounds: int = 0


KINDS = (
    Kind(hedge=False, inverse=False, contract_size="0.001", settle="USDT", liquidity="4.5", blocks_covered=False),
    Kind(hedge=True, inverse=False, contract_size=1, settle="USDC", liquidity=5, blocks_covered=True),
    Kind(hedge=False, inverse=True, contract_size=100, settle="BTC", liquidity=6, blocks_covered=False, rounds=-1),
    Kind(hedge=True, inverse=True, contract_size=10, settle="ETH", liquidity="7.25", blocks_covered=False, rounds=1),
)


@dataclass(frozen=True, slots=True)
class Spot:
    """A position that is opened again and again: its id, and where."""

    id: str
    account: int
    leg: Leg


@dataclass(frozen=True, slots=True)
class Setting:
    """A run, as every process of it knows it."""

    directory: str
    seed: int
    positions: int
    lease: float

    @property
    def lock_dir(self) -> str:
        """Where the locks and the ledger are."""
        return f"{self.directory}/locks"

    @property
    def accounts(self) -> int:
        """How many exchange accounts there are."""
        return min(_MOST_ACCOUNTS, max(1, self.positions // _PER_ACCOUNT))

    @property
    def patience(self) -> float:
        """The time-out of a guard that waits for a silent closer to be replaced."""
        return 1.5 * self.lease

    @property
    def ledger(self) -> str:
        """The file of the ledger."""
        return f"{self.lock_dir}/ledger.db"

    def kind(self, account: int) -> Kind:
        """What an account is like."""
        return KINDS[account % len(KINDS)]

    def spots(self) -> list[Spot]:
        """All positions, spread over the accounts; in hedge mode a long and a short share a market."""
        return [self._spot(number) for number in range(self.positions)]

    def venue(self, account: int, **options: Any) -> PaperExchange:
        """One account, as it is without faults."""
        kind = self.kind(account)
        return PaperExchange(
            f"{self.directory}/venue-{account}.db",
            hedge=kind.hedge,
            inverse=kind.inverse,
            contract_size=kind.contract_size,
            settle=kind.settle,
            settles_within=SETTLES_WITHIN,
            **{"blocks_covered": kind.blocks_covered, **options},
        )

    def as_json(self) -> dict[str, Any]:
        """For the command line of a process."""
        return asdict(self)

    def _spot(self, number: int) -> Spot:
        account, place = number % self.accounts, number // self.accounts
        # Two accounts share no symbol: what is adopted is named after it.
        symbol = f"A{account}C{place // 2 if self.kind(account).hedge else place}"
        return Spot(f"p{number:03}", account, Leg(symbol, "short" if place % 2 else "long"))
