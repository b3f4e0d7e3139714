#!lua flags=allow-oom
-- Put on record what a look-up saw of an order that was accepted. Its state stays; an end takes it off the open ones.
--
-- KEYS  lease, clock, order, history, calls, open, ends, lookups
-- ARGV  owner, fence, order id, broker status, ended (1/0), reason, number of fields, pairs, number of records, records …
-- Returns {"ok"} or {"lost"}
if not owns(KEYS[1], ARGV[1], ARGV[2]) then return { 'lost' } end
local now = lane_now(KEYS[2])
redis.call('ZREM', KEYS[8], ARGV[3])
local before = redis.call('HMGET', KEYS[3], 'broker_status', 'state')
local next_argument = put(KEYS[3], 8, tonumber(ARGV[7]))
local records = tonumber(ARGV[next_argument])
for i = next_argument + 1, next_argument + records do redis.call('RPUSH', KEYS[5], ARGV[i]) end
if records > 0 then redis.call('HINCRBY', KEYS[3], 'records', records) end
if ARGV[4] ~= '' and before[2] == 'accepted' then
  redis.call('HSET', KEYS[3], 'broker_status', ARGV[4], 'updated', now)
  if before[1] ~= ARGV[4] then note(KEYS[4], 'accepted', now, 'at the broker: ' .. ARGV[4] .. (ARGV[6] ~= '' and ', ' .. ARGV[6] or '')) end
  if ARGV[5] == '1' then
    redis.call('ZREM', KEYS[6], ARGV[3])
    redis.call('ZADD', KEYS[7], now, ARGV[3])
  end
end
return { 'ok' }
