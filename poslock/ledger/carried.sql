-- Carries over what versions 1 and 2 knew. Of a position that is its size: what the venue held then counts as the same,
-- its price there as unknown. They counted fills from the tracking on, so no earlier trade is asked for.
INSERT INTO position SELECT position_id, generation, account, symbol, side, contracts, entry_price, contract_size, inverse,
    settle, entry_fee, tracked_at_ms, state, token, contracts, NULL, NULL, tracked_at_ms, 0, '', NULL FROM old_position;
INSERT INTO close SELECT position_id, generation, CASE step WHEN 'swept' THEN 'filled' ELSE step END, reason FROM old_close;
INSERT INTO attempt SELECT position_id, generation, number, client_order_id, contracts, expires_at_ms, filled
    FROM old_attempt;
INSERT INTO growth SELECT position_id, generation, entry_price FROM old_growth;
INSERT INTO change SELECT position_id, generation, number, kind, contracts, trigger_price, client_order_id, step,
    expires_at_ms, filled, NULL, 0 FROM old_change;
INSERT INTO booking SELECT position_id, generation, exit_price, gross_pnl, fees, funding, net_pnl, client_order_id, token,
    closed_at, '', NULL, '0', '0' FROM old_booking;
INSERT INTO fill SELECT old_fill.account, old_fill.symbol, position.side, trade_id, position_id, generation,
    client_order_id, price, old_fill.contracts, fee, fee_currency, at_ms
    FROM old_fill JOIN position USING (position_id, generation);
INSERT INTO audit SELECT number, at, position_id, generation, token, pid, event, detail FROM old_audit ORDER BY number;
-- A position that grew has its entries among the trades; it was tracked with what its history says: "long 10 BTC/USDT".
UPDATE position SET held = coalesce((
        SELECT substr(detail, length(side) + 2, length(detail) - length(side) - length(symbol) - 2) FROM audit
        WHERE audit.position_id = position.position_id AND audit.generation = position.generation AND event = 'tracked'
    ), held)
    WHERE EXISTS (SELECT * FROM growth
        WHERE growth.position_id = position.position_id AND growth.generation = position.generation);
DROP TABLE old_audit;
DROP TABLE old_fill;
DROP TABLE old_booking;
DROP TABLE old_change;
DROP TABLE old_growth;
DROP TABLE old_attempt;
DROP TABLE old_close;
DROP TABLE old_position;
