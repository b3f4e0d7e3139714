#!lua flags=allow-oom
-- An order with the lane's clock, so that its age is known.
--
-- KEYS  prefix of the lane
-- ARGV  order id
-- Returns {now, field, value, field, value …}
local found = redis.call('HGETALL', order_key(ARGV[1]))
local now = lane_now()
table.insert(found, 1, now)
return found
