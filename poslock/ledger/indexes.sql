-- What version 3 lacked. However many positions were closed before, these find the few that are not, the newest one of an id
-- on an account, the highest token of an id, and the events of a position.
CREATE INDEX positions_not_over ON position (position_id, generation) WHERE state IN ('open', 'closing');
CREATE INDEX positions_of_an_account ON position (position_id, account, generation);
CREATE INDEX tokens ON position (position_id, token);
CREATE INDEX events_of_a_position ON audit (position_id);

PRAGMA user_version = 4;
