-- A ledger of poslock when its schema was version 3, as it wrote it: open, changed, closed, in mid-close, and tracked again.
BEGIN TRANSACTION;
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
INSERT INTO "attempt" VALUES('closed',1,1,'plc403569ecebeb4af2264b877a81b79','10',1795687883652,NULL);
INSERT INTO "attempt" VALUES('again',1,1,'plbc917ad17c1ede53ffc357b8cf92c5','10',1795687883738,NULL);
INSERT INTO "attempt" VALUES('closing',1,1,'ple1714c98e2f7e3975ba2bc067c28aa','10',1795687883826,NULL);
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
INSERT INTO "audit" VALUES(1,1.79568787844836664198e+09,'open',1,0,10534,'tracked','long 10 OPEN');
INSERT INTO "audit" VALUES(2,1.79568787851160240175e+09,'changed',1,0,10534,'tracked','long 10 CHANGED');
INSERT INTO "audit" VALUES(3,1795687878.5182,'closed',1,0,10534,'tracked','long 10 CLOSED');
INSERT INTO "audit" VALUES(4,1.7956878785248782635e+09,'closing',1,0,10534,'tracked','long 10 CLOSING');
INSERT INTO "audit" VALUES(5,1.79568787852820634844e+09,'again',1,0,10534,'tracked','long 10 AGAIN');
INSERT INTO "audit" VALUES(6,1.79568787853346681598e+09,'changed',1,1795687878532003,10534,'change','stop_loss at 57000');
INSERT INTO "audit" VALUES(7,1.79568787853352522846e+09,'changed',1,1795687878532003,10534,'change','take_profit at 61000 for 4');
INSERT INTO "audit" VALUES(8,1.79568787853355741495e+09,'changed',1,1795687878532003,10534,'change','take_profit at 62000 for 6');
INSERT INTO "audit" VALUES(9,1.79568787855193948742e+09,'changed',1,1795687878532003,10534,'sending','plf9ec9b654a64d449440f2f7b42b4f5 stop_loss at 57000');
INSERT INTO "audit" VALUES(10,1.79568787857198596002e+09,'changed',1,1795687878532003,10534,'done','stop_loss at 57000');
INSERT INTO "audit" VALUES(11,1.7956878785856187344e+09,'changed',1,1795687878532003,10534,'sending','plc716be052b65a0575a6324b2c7f838 take_profit at 61000 for 4');
INSERT INTO "audit" VALUES(12,1.79568787859719491009e+09,'changed',1,1795687878532003,10534,'sending','plbd12050764621aad435240df6084a3 take_profit at 62000 for 6');
INSERT INTO "audit" VALUES(13,1.79568787861363863946e+09,'changed',1,1795687878532003,10534,'done','take_profit at 61000 for 4');
INSERT INTO "audit" VALUES(14,1.79568787861369180683e+09,'changed',1,1795687878532003,10534,'done','take_profit at 62000 for 6');
INSERT INTO "audit" VALUES(15,1.79568787863413691519e+09,'closed',1,1795687878633685,10534,'intent','target');
INSERT INTO "audit" VALUES(16,1.79568787865273308754e+09,'closed',1,1795687878633685,10534,'sending','plc403569ecebeb4af2264b877a81b79 10');
INSERT INTO "audit" VALUES(17,1.79568787867407035825e+09,'closed',1,1795687878633685,10534,'filled','');
INSERT INTO "audit" VALUES(18,1.79568787869407725339e+09,'closed',1,1795687878633685,10534,'booked','net -10295.0000');
INSERT INTO "audit" VALUES(19,1.79568787871181893348e+09,'again',1,1795687878711447,10534,'intent','');
INSERT INTO "audit" VALUES(20,1.7956878787383878231e+09,'again',1,1795687878711447,10534,'sending','plbc917ad17c1ede53ffc357b8cf92c5 10');
INSERT INTO "audit" VALUES(21,1.79568787876114058493e+09,'again',1,1795687878711447,10534,'filled','');
INSERT INTO "audit" VALUES(22,1.79568787877555871004e+09,'again',1,1795687878711447,10534,'booked','net -10295.0000');
INSERT INTO "audit" VALUES(23,1.79568787878880143163e+09,'again',2,1795687878711447,10534,'tracked','long 10 AGAIN');
INSERT INTO "audit" VALUES(24,1.79568787879984402651e+09,'closing',1,1795687878799387,10534,'intent','stop-loss');
INSERT INTO "audit" VALUES(25,1.79568787882637143134e+09,'closing',1,1795687878799387,10534,'sending','ple1714c98e2f7e3975ba2bc067c28aa 10');
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
INSERT INTO "booking" VALUES('closed',1,'59000','-10000','295.0000','0','-10295.0000','plc403569ecebeb4af2264b877a81b79',1795687878633685,'2026-11-26T10:11:18.672000+00:00','close','0','0','0');
INSERT INTO "booking" VALUES('again',1,'59000','-10000','295.0000','0','-10295.0000','plbc917ad17c1ede53ffc357b8cf92c5',1795687878711447,'2026-11-26T10:11:18.760000+00:00','close','0','0','0');
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
INSERT INTO "change" VALUES('changed',1,1,'stop_loss','10','57000','plf9ec9b654a64d449440f2f7b42b4f5','done',1795687883551,NULL,NULL,0);
INSERT INTO "change" VALUES('changed',1,2,'take_profit','4','61000','plc716be052b65a0575a6324b2c7f838','done',1795687883585,NULL,2,0);
INSERT INTO "change" VALUES('changed',1,3,'take_profit','6','62000','plbd12050764621aad435240df6084a3','done',1795687883596,NULL,2,0);
CREATE TABLE close (
    position_id TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    step        TEXT NOT NULL CHECK (step IN ('intent', 'sending', 'filled', 'booked')),
    reason      TEXT NOT NULL,
    PRIMARY KEY (position_id, generation),
    FOREIGN KEY (position_id, generation) REFERENCES position
) STRICT;
INSERT INTO "close" VALUES('closed',1,'booked','target');
INSERT INTO "close" VALUES('again',1,'booked','');
INSERT INTO "close" VALUES('closing',1,'sending','stop-loss');
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
INSERT INTO "fill" VALUES('paper-3522299e665f62c4','CLOSED','long','6','closed',1,'plc403569ecebeb4af2264b877a81b79','59000','10','295.0000','USDT',1795687878672);
INSERT INTO "fill" VALUES('paper-3522299e665f62c4','AGAIN','long','7','again',1,'plbc917ad17c1ede53ffc357b8cf92c5','59000','10','295.0000','USDT',1795687878760);
CREATE TABLE growth (
    position_id TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    entry_price TEXT NOT NULL,
    PRIMARY KEY (position_id, generation),
    FOREIGN KEY (position_id, generation) REFERENCES position
) STRICT;
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
INSERT INTO "position" VALUES('open',1,'paper-3522299e665f62c4','OPEN','long','10','60000','1',0,'USDT','0',1795687878447,'open',0,'10','60000',NULL,1795684278447,0,'',NULL);
INSERT INTO "position" VALUES('changed',1,'paper-3522299e665f62c4','CHANGED','long','10','60000','1',0,'USDT','0',1795687878511,'open',1795687878532003,'10','60000',NULL,1795684278511,0,'',NULL);
INSERT INTO "position" VALUES('closed',1,'paper-3522299e665f62c4','CLOSED','long','10','60000','1',0,'USDT','0',1795687878517,'closed',1795687878633685,'10','60000',NULL,1795684278517,0,'',NULL);
INSERT INTO "position" VALUES('closing',1,'paper-3522299e665f62c4','CLOSING','long','10','60000','1',0,'USDT','0',1795687878524,'closing',1795687878799387,'10','60000',NULL,1795684278524,0,'',NULL);
INSERT INTO "position" VALUES('again',1,'paper-3522299e665f62c4','AGAIN','long','10','60000','1',0,'USDT','0',1795687878527,'closed',1795687878711447,'10','60000',NULL,1795684278527,0,'',NULL);
INSERT INTO "position" VALUES('again',2,'paper-3522299e665f62c4','AGAIN','long','10','60000','1',0,'USDT','0',1795687878788,'open',1795687878711447,'10','60000',NULL,1795684278788,0,'',NULL);
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
INSERT INTO "trade" VALUES('open',1,'1',0,1,'entry','1',NULL,'60000','10','300.0000','USDT',1795687878385);
INSERT INTO "trade" VALUES('changed',1,'2',0,1,'entry','2',NULL,'60000','10','300.0000','USDT',1795687878510);
INSERT INTO "trade" VALUES('closed',1,'3',0,1,'entry','3',NULL,'60000','10','300.0000','USDT',1795687878517);
INSERT INTO "trade" VALUES('closing',1,'4',0,1,'entry','4',NULL,'60000','10','300.0000','USDT',1795687878524);
INSERT INTO "trade" VALUES('again',1,'5',0,1,'entry','5',NULL,'60000','10','300.0000','USDT',1795687878527);
INSERT INTO "trade" VALUES('closed',1,'6',0,0,'exit','9','plc403569ecebeb4af2264b877a81b79','59000','10','295.0000','USDT',1795687878672);
INSERT INTO "trade" VALUES('again',1,'7',0,0,'exit','10','plbc917ad17c1ede53ffc357b8cf92c5','59000','10','295.0000','USDT',1795687878760);
INSERT INTO "trade" VALUES('again',2,'5',0,1,'entry','5',NULL,'60000','10','300.0000','USDT',1795687878527);
INSERT INTO "trade" VALUES('again',2,'7',1,1,'exit','10','plbc917ad17c1ede53ffc357b8cf92c5','59000','10','295.0000','USDT',1795687878760);
INSERT INTO "trade" VALUES('again',2,'8',2,1,'entry','11',NULL,'60000','10','300.0000','USDT',1795687878787);
CREATE UNIQUE INDEX one_open_position_per_leg ON position (account, symbol, side)
    WHERE state IN ('open', 'closing') AND later IS NULL;
CREATE INDEX unfinished_changes ON change (position_id, generation) WHERE step IN ('intent', 'sending');
CREATE INDEX fills_of_a_position ON fill (position_id, generation);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('audit',25);
COMMIT;
PRAGMA user_version = 3;
