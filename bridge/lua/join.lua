-- Put an alert's orders into the lane of an account that is not its home. Repeating it changes nothing.
--
-- KEYS  clock, lane, orders, ends, then (order, history) of each order
-- ARGV  number of orders, then each order's number of fields and pairs
local now = lane_now(KEYS[1])
put_orders(2, tonumber(ARGV[1]), 5, now, KEYS[1], KEYS[2], KEYS[3], KEYS[4])
return 'ok'
