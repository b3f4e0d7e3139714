-- An order with the lane's clock, so that its age is known.
--
-- KEYS  order, clock
-- Returns {now, field, value, field, value …}
local found = redis.call('HGETALL', KEYS[1])
table.insert(found, 1, lane_now(KEYS[2]))
return found
