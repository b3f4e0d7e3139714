#!lua flags=allow-oom
-- Append records to an order's calls. A worker that has lost its lane, and whose order another one has sent since, has
-- them kept apart: what became of its own write says nothing of the newer one.
--
-- KEYS  prefix of the lane
-- ARGV  owner, fence, order id, records …
-- Returns {"calls"} or {"late"}
local place = 'calls'
if not owns(ARGV[1], ARGV[2]) and redis.call('HGET', order_key(ARGV[3]), 'fence') ~= ARGV[2] then place = 'late' end
for i = 4, #ARGV do redis.call('RPUSH', P .. place .. ':' .. ARGV[3], ARGV[i]) end
return { place }
