-- generation: counted up for each id, over all accounts that use it.
-- token: the highest fencing token that any write on this position carried. A lower one is refused.
-- held, held_price, venue_id: what the venue said of the leg when the position was tracked; held is its contracts.
-- trades_since_ms: venue time from which on trades of the leg are asked for. entry_known: the bot named its entry orders.
-- unsettled: why the close cannot end, '' if it can. later: what the venue held when a later position was tracked on the
-- leg; from then on nothing is sent for this one.
CREATE TABLE position (
    position_id     TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    account         TEXT NOT NULL,
    symbol          TEXT NOT NULL,
    side            TEXT NOT NULL CHECK (side IN ('long', 'short')),
    contracts       TEXT NOT NULL,
    entry_price     TEXT NOT NULL,
    contract_size   TEXT NOT NULL,
    inverse         INTEGER NOT NULL CHECK (inverse IN (0, 1)),
    settle          TEXT NOT NULL,
    entry_fee       TEXT NOT NULL,
    tracked_at_ms   INTEGER NOT NULL,
    state           TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closing', 'closed', 'forgotten')),
    token           INTEGER NOT NULL DEFAULT 0,
    held            TEXT NOT NULL,
    held_price      TEXT,
    venue_id        TEXT,
    trades_since_ms INTEGER NOT NULL,
    entry_known     INTEGER NOT NULL DEFAULT 0 CHECK (entry_known IN (0, 1)),
    unsettled       TEXT NOT NULL DEFAULT '',
    later           TEXT,
    PRIMARY KEY (position_id, generation)
) STRICT;

-- A venue knows a position only as one side of one market. Two open ones there could not be told apart.
CREATE UNIQUE INDEX one_open_position_per_leg ON position (account, symbol, side)
    WHERE state IN ('open', 'closing') AND later IS NULL;

-- Every trade that the venue ever showed on the leg of a position, in the venue's order: venues forget.
-- baseline: what the venue held when the position was tracked contains it.
CREATE TABLE trade (
    position_id     TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    trade_id        TEXT NOT NULL,
    number          INTEGER NOT NULL,
    baseline        INTEGER NOT NULL CHECK (baseline IN (0, 1)),
    effect          TEXT NOT NULL CHECK (effect IN ('entry', 'exit')),
    order_id        TEXT,
    client_order_id TEXT,
    price           TEXT NOT NULL,
    contracts       TEXT NOT NULL,
    fee             TEXT NOT NULL,
    fee_currency    TEXT NOT NULL,
    at_ms           INTEGER NOT NULL,
    PRIMARY KEY (position_id, generation, trade_id),
    FOREIGN KEY (position_id, generation) REFERENCES position
) STRICT;

-- The primary key is the promise: one close per position and generation.
CREATE TABLE close (
    position_id TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    step        TEXT NOT NULL CHECK (step IN ('intent', 'sending', 'filled', 'booked')),
    reason      TEXT NOT NULL,
    PRIMARY KEY (position_id, generation),
    FOREIGN KEY (position_id, generation) REFERENCES position
) STRICT;

-- filled: contracts filled when the attempt had ended at the venue; NULL until that is known.
CREATE TABLE attempt (
    position_id     TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    number          INTEGER NOT NULL,
    client_order_id TEXT NOT NULL UNIQUE,
    contracts       TEXT NOT NULL,
    expires_at_ms   INTEGER NOT NULL,
    filled          TEXT,
    PRIMARY KEY (position_id, generation, number),
    FOREIGN KEY (position_id, generation) REFERENCES close
) STRICT;

-- What all that its leg ever held had cost on average when a position was last found to have grown.
CREATE TABLE growth (
    position_id TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    entry_price TEXT NOT NULL,
    PRIMARY KEY (position_id, generation),
    FOREIGN KEY (position_id, generation) REFERENCES position
) STRICT;

-- Changes of an open position. trigger_price: NULL where none is wanted. filled: what a reduce has reduced by.
-- ladder: the number of the first rung of the take-profit that this is a rung of, NULL if it is none. follows: whether it is
-- the stop-loss at its old price for what is left; only our own ones are replaced by it.
CREATE TABLE change (
    position_id     TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    number          INTEGER NOT NULL,
    kind            TEXT NOT NULL CHECK (kind IN ('stop_loss', 'take_profit', 'reduce')),
    contracts       TEXT NOT NULL,
    trigger_price   TEXT,
    client_order_id TEXT UNIQUE,
    step            TEXT NOT NULL CHECK (step IN ('intent', 'sending', 'done', 'refused', 'dropped')),
    expires_at_ms   INTEGER NOT NULL,
    filled          TEXT,
    ladder          INTEGER,
    follows         INTEGER NOT NULL DEFAULT 0 CHECK (follows IN (0, 1)),
    PRIMARY KEY (position_id, generation, number),
    FOREIGN KEY (position_id, generation) REFERENCES position
) STRICT;
CREATE INDEX unfinished_changes ON change (position_id, generation) WHERE step IN ('intent', 'sending');

-- The primary key is the promise: one booking per close.
-- exit_price: NULL if nothing was proved. left_at_venue: contracts that the venue held when the position was over, NULL if
-- that was not known. written_off: contracts of the position in no P&L. by_operator: contracts whose exit price is the
-- operator's word.
CREATE TABLE booking (
    position_id     TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    exit_price      TEXT,
    gross_pnl       TEXT NOT NULL,
    fees            TEXT NOT NULL,
    funding         TEXT NOT NULL,
    net_pnl         TEXT NOT NULL,
    client_order_id TEXT,
    token           INTEGER NOT NULL,
    closed_at       TEXT NOT NULL,
    ended_by        TEXT NOT NULL,
    left_at_venue   TEXT,
    written_off     TEXT NOT NULL DEFAULT '0',
    by_operator     TEXT NOT NULL DEFAULT '0',
    PRIMARY KEY (position_id, generation),
    FOREIGN KEY (position_id, generation) REFERENCES close
) STRICT;

-- The primary key is the promise: no fill is booked twice. A trade that crosses flat is one of each side.
CREATE TABLE fill (
    account         TEXT NOT NULL,
    symbol          TEXT NOT NULL,
    side            TEXT NOT NULL,
    trade_id        TEXT NOT NULL,
    position_id     TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    client_order_id TEXT,
    price           TEXT NOT NULL,
    contracts       TEXT NOT NULL,
    fee             TEXT NOT NULL,
    fee_currency    TEXT NOT NULL,
    at_ms           INTEGER NOT NULL,
    PRIMARY KEY (account, symbol, side, trade_id),
    FOREIGN KEY (position_id, generation) REFERENCES booking
) STRICT;
CREATE INDEX fills_of_a_position ON fill (position_id, generation);

-- at: wall-clock seconds, for people.
CREATE TABLE audit (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    at          REAL NOT NULL,
    position_id TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    token       INTEGER NOT NULL,
    pid         INTEGER NOT NULL,
    event       TEXT NOT NULL,
    detail      TEXT NOT NULL
) STRICT;
