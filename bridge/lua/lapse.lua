#!lua flags=allow-oom
-- Orders that were to work at the broker no longer than until now count as ended.
--
-- KEYS  prefix of the lane
-- Returns how many
local now = lane_now()
local ids = redis.call('ZRANGEBYSCORE', P .. 'open', '-inf', string.format('(%d', now), 'LIMIT', 0, 1000)
for _, id in ipairs(ids) do
  if not redis.call('ZSCORE', P .. 'waiting', id) then redis.call('ZADD', P .. 'ends', now, id) end
  redis.call('ZREM', P .. 'open', id)
end
return #ids
