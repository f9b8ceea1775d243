-- Version 1 did not know what its positions had cost. It cannot be carried over, so it is refused by this name.
CREATE TEMP TABLE refusal (version INTEGER CONSTRAINT made_by_an_older_poslock CHECK (version <> 1));
INSERT INTO refusal SELECT user_version FROM pragma_user_version;
DROP TABLE refusal;

-- The first who opens the file decides its mode, in the place of :hedge.
CREATE TABLE IF NOT EXISTS account (
    only  INTEGER PRIMARY KEY CHECK (only = 1),
    name  TEXT NOT NULL,
    hedge INTEGER NOT NULL CHECK (hedge IN (0, 1))
) STRICT;
INSERT OR IGNORE INTO account VALUES (1, 'paper-' || lower(hex(randomblob(8))), :hedge);

CREATE TABLE IF NOT EXISTS market (
    symbol TEXT PRIMARY KEY,
    price  TEXT NOT NULL
) STRICT;

-- What is held, and nothing else. In one-way mode that is at most one leg of a market.
CREATE TABLE IF NOT EXISTS legs (
    symbol      TEXT NOT NULL REFERENCES market,
    side        TEXT NOT NULL CHECK (side IN ('long', 'short')),
    contracts   TEXT NOT NULL,
    entry_price TEXT NOT NULL,
    PRIMARY KEY (symbol, side)
) STRICT;

CREATE TABLE IF NOT EXISTS orders (
    order_id        INTEGER PRIMARY KEY AUTOINCREMENT,
    client_order_id TEXT UNIQUE,
    symbol          TEXT NOT NULL REFERENCES market,
    side            TEXT NOT NULL CHECK (side IN ('buy', 'sell')),
    family          TEXT NOT NULL CHECK (family IN ('order', 'stop_loss', 'take_profit')),
    reduce_only     INTEGER NOT NULL,
    contracts       TEXT NOT NULL,
    filled          TEXT NOT NULL DEFAULT '0',
    trigger_price   TEXT,
    state           TEXT NOT NULL CHECK (state IN ('open', 'filled', 'canceled')),
    created_ms      INTEGER NOT NULL,
    rests_until_ms  INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS open_orders ON orders (symbol) WHERE state = 'open';

CREATE TABLE IF NOT EXISTS fills (
    trade_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    order_id     INTEGER NOT NULL REFERENCES orders,
    symbol       TEXT NOT NULL,
    side         TEXT NOT NULL,
    reduced      INTEGER NOT NULL,
    price        TEXT NOT NULL,
    contracts    TEXT NOT NULL,
    fee          TEXT NOT NULL,
    fee_currency TEXT NOT NULL,
    at_ms        INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS fills_of_market ON fills (symbol, at_ms);

-- Without a side it is that of whichever leg is held.
CREATE TABLE IF NOT EXISTS funding (
    symbol TEXT NOT NULL,
    side   TEXT CHECK (side IN ('long', 'short')),
    amount TEXT NOT NULL,
    at_ms  INTEGER NOT NULL
) STRICT;

PRAGMA user_version = 2;
