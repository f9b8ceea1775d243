BEGIN IMMEDIATE;

CREATE TABLE IF NOT EXISTS account (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    name TEXT NOT NULL
) STRICT;
INSERT OR IGNORE INTO account VALUES (1, 'paper-' || lower(hex(randomblob(8))));

-- One-way mode: contracts above zero are long, below zero short.
CREATE TABLE IF NOT EXISTS market (
    symbol    TEXT PRIMARY KEY,
    price     TEXT NOT NULL,
    contracts TEXT NOT NULL DEFAULT '0'
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

CREATE TABLE IF NOT EXISTS funding (
    symbol TEXT NOT NULL,
    amount TEXT NOT NULL,
    at_ms  INTEGER NOT NULL
) STRICT;

PRAGMA user_version = 1;
COMMIT;
