#!lua flags=allow-oom
-- Own a lane, or go on owning it. The fencing number grows with each new owner. The lane's clock is stored.
--
-- KEYS  prefix of the lane
-- ARGV  owner, time to live in ms
-- Returns {fence, now}, or {0, ms until the present owner's lease ends}
local now = lane_now()
redis.call('HSET', P .. 'clock', 'last', now)
local kept = redis.call('HMGET', P .. 'lease', 'owner', 'fence', 'until')
local fence, ends = tonumber(kept[2] or 0), tonumber(kept[3] or 0)
if kept[1] ~= ARGV[1] then
  if ends > now then return { 0, ends - now } end
  fence = fence + 1
end
redis.call('HSET', P .. 'lease', 'owner', ARGV[1], 'fence', fence, 'until', now + tonumber(ARGV[2]))
return { fence, now }
