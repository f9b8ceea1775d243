BEGIN IMMEDIATE;

-- token: the highest fencing token that any write on this position carried. A lower one is refused.
CREATE TABLE IF NOT EXISTS position (
    position_id   TEXT NOT NULL,
    generation    INTEGER NOT NULL,
    account       TEXT NOT NULL,
    symbol        TEXT NOT NULL,
    side          TEXT NOT NULL CHECK (side IN ('long', 'short')),
    contracts     TEXT NOT NULL,
    entry_price   TEXT NOT NULL,
    contract_size TEXT NOT NULL,
    inverse       INTEGER NOT NULL CHECK (inverse IN (0, 1)),
    settle        TEXT NOT NULL,
    entry_fee     TEXT NOT NULL,
    tracked_at_ms INTEGER NOT NULL,
    state         TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closing', 'closed')),
    token         INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (position_id, generation)
) STRICT;

-- A venue knows a position only as one side of one market. Two open ones there could not be told apart.
CREATE UNIQUE INDEX IF NOT EXISTS one_open_position_per_leg ON position (account, symbol, side) WHERE state <> 'closed';

-- The primary key is the promise: one close per position and generation.
CREATE TABLE IF NOT EXISTS close (
    position_id TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    step        TEXT NOT NULL CHECK (step IN ('intent', 'sending', 'filled', 'booked')),
    reason      TEXT NOT NULL,
    PRIMARY KEY (position_id, generation),
    FOREIGN KEY (position_id, generation) REFERENCES position
) STRICT;

-- filled: contracts filled when the attempt had ended at the venue; NULL until that is known.
CREATE TABLE IF NOT EXISTS attempt (
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

-- The venue's average entry price of what it held when a position was last found to have grown.
CREATE TABLE IF NOT EXISTS growth (
    position_id TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    entry_price TEXT NOT NULL,
    PRIMARY KEY (position_id, generation),
    FOREIGN KEY (position_id, generation) REFERENCES position
) STRICT;

-- Changes of an open position. trigger_price: NULL where none is wanted. filled: what a reduce has reduced by.
CREATE TABLE IF NOT EXISTS change (
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
    PRIMARY KEY (position_id, generation, number),
    FOREIGN KEY (position_id, generation) REFERENCES position
) STRICT;
CREATE INDEX IF NOT EXISTS unfinished_changes ON change (position_id, generation) WHERE step IN ('intent', 'sending');

-- The primary key is the promise: one booking per close.
CREATE TABLE IF NOT EXISTS booking (
    position_id     TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    exit_price      TEXT NOT NULL,
    gross_pnl       TEXT NOT NULL,
    fees            TEXT NOT NULL,
    funding         TEXT NOT NULL,
    net_pnl         TEXT NOT NULL,
    client_order_id TEXT,
    token           INTEGER NOT NULL,
    closed_at       TEXT NOT NULL,
    PRIMARY KEY (position_id, generation),
    FOREIGN KEY (position_id, generation) REFERENCES close
) STRICT;

-- The primary key is the promise: no fill is booked twice.
CREATE TABLE IF NOT EXISTS fill (
    account         TEXT NOT NULL,
    symbol          TEXT NOT NULL,
    trade_id        TEXT NOT NULL,
    position_id     TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    client_order_id TEXT,
    price           TEXT NOT NULL,
    contracts       TEXT NOT NULL,
    fee             TEXT NOT NULL,
    fee_currency    TEXT NOT NULL,
    at_ms           INTEGER NOT NULL,
    PRIMARY KEY (account, symbol, trade_id),
    FOREIGN KEY (position_id, generation) REFERENCES booking
) STRICT;

-- at: wall-clock seconds, for people.
CREATE TABLE IF NOT EXISTS audit (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    at          REAL NOT NULL,
    position_id TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    token       INTEGER NOT NULL,
    pid         INTEGER NOT NULL,
    event       TEXT NOT NULL,
    detail      TEXT NOT NULL
) STRICT;

-- Until version 1 the end of the sweep was a step of its own.
UPDATE close SET step = 'filled' WHERE step = 'swept';

PRAGMA user_version = 2;
COMMIT;
