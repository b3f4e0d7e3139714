-- Put an alert's orders into the lane of an account that is not its home. Repeating it changes nothing.
--
-- KEYS  prefix of the lane
-- ARGV  TIME in ms at the alert's receipt, ms that it has waited since (by other clocks), number of orders,
--       then each order's number of fields and pairs
-- Returns id, state, reason of each, and whether it waits for a person
local now, _, behind = lane_now()
local received = math.min(now - tonumber(ARGV[2]), tonumber(ARGV[1]) + behind)
return put_orders(4, tonumber(ARGV[3]), now, received)
