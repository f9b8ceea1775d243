-- Puts the tables of versions 1 and 2 aside, under the names in which `carried.sql` looks for them.
-- Version 1 had no changes and no growth, and the end of its sweep was a step of its own.
CREATE TABLE IF NOT EXISTS growth (position_id, generation, entry_price);
CREATE TABLE IF NOT EXISTS change (position_id, generation, number, kind, contracts, trigger_price, client_order_id, step,
    expires_at_ms, filled);
DROP INDEX IF EXISTS one_open_position_per_leg;
DROP INDEX IF EXISTS unfinished_changes;
ALTER TABLE position RENAME TO old_position;
ALTER TABLE close RENAME TO old_close;
ALTER TABLE attempt RENAME TO old_attempt;
ALTER TABLE growth RENAME TO old_growth;
ALTER TABLE change RENAME TO old_change;
ALTER TABLE booking RENAME TO old_booking;
ALTER TABLE fill RENAME TO old_fill;
ALTER TABLE audit RENAME TO old_audit;
