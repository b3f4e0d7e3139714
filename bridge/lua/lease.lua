-- Own a lane, or go on owning it. The fencing number grows with each new owner. The lane's clock is stored.
--
-- KEYS  lease, clock
-- ARGV  owner, time to live in ms
-- Returns {fence, now}, or {0, ms until the present owner's lease ends}
local now = lane_now(KEYS[2])
redis.call('HSET', KEYS[2], 'last', now)
local kept = redis.call('HMGET', KEYS[1], 'owner', 'fence', 'until')
local fence, ends = tonumber(kept[2] or 0), tonumber(kept[3] or 0)
if kept[1] ~= ARGV[1] then
  if ends > now then return { 0, ends - now } end
  fence = fence + 1
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'fence', fence, 'until', now + tonumber(ARGV[2]))
return { fence, now }
