#!lua flags=allow-oom
-- Put on record what a look-up saw of an order that was accepted. Its state stays; an end takes it off the open ones.
--
-- KEYS  prefix of the lane
-- ARGV  owner, fence, order id, broker status, ended (1/0), reason, number of fields, pairs, number of records, records …
-- Returns {"ok"} or {"lost"}
if not owns(ARGV[1], ARGV[2]) then return { 'lost' } end
local now, id = lane_now(), ARGV[3]
redis.call('ZREM', P .. 'lookups', id)
local before = read(id, 'broker_status', 'state')
local next_argument = put(order_key(id), 8, tonumber(ARGV[7]))
local records = tonumber(ARGV[next_argument])
keep_records(id, next_argument + 1, records)
if records > 0 then redis.call('HINCRBY', order_key(id), 'records', records) end
if ARGV[4] ~= '' and before['state'] == 'accepted' then
  redis.call('HSET', order_key(id), 'broker_status', ARGV[4], 'updated', now)
  if before['broker_status'] ~= ARGV[4] then
    note(id, 'accepted', now, 'at the broker: ' .. ARGV[4] .. (ARGV[6] ~= '' and ', ' .. ARGV[6] or ''))
  end
  if ARGV[5] == '1' then
    redis.call('ZREM', P .. 'open', id)
    if not redis.call('ZSCORE', P .. 'waiting', id) then redis.call('ZADD', P .. 'ends', now, id) end
  end
end
return { 'ok' }
