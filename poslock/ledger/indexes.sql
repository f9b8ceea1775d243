-- What version 3 lacked, and version 4 one of it. However many positions were closed before, these find the few that are not,
-- the newest one of an id on an account, the highest token of an id, the events of a position, and what was booked on a leg of late.
CREATE INDEX IF NOT EXISTS positions_not_over ON position (position_id, generation) WHERE state IN ('open', 'closing');
CREATE INDEX IF NOT EXISTS positions_of_an_account ON position (position_id, account, generation);
CREATE INDEX IF NOT EXISTS tokens ON position (position_id, token);
CREATE INDEX IF NOT EXISTS events_of_a_position ON audit (position_id);
CREATE INDEX IF NOT EXISTS fills_of_a_leg ON fill (account, symbol, side, at_ms);

PRAGMA user_version = 5;
