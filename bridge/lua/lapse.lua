-- Orders that were to work at the broker no longer than until now count as ended.
--
-- KEYS  open, ends, clock
-- Returns how many
local now = lane_now(KEYS[3])
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('(%d', now), 'LIMIT', 0, 1000)
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[2], now, id)
  redis.call('ZREM', KEYS[1], id)
end
return #ids
