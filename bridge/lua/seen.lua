#!lua flags=allow-oom
-- Put on record what a look-up saw of an order that was accepted. Its state stays; an end takes it off the open ones.
--
-- KEYS  prefix of the lane
-- ARGV  owner, fence, order id, broker status, ended (1/0), reason, it or a leg was rejected (1/0), number of fields, pairs,
--       number of records, records …
-- Returns {"ok"}, {"told"} when it waits for a person from now on, or {"lost"}
if not owns(ARGV[1], ARGV[2]) then return { 'lost' } end
local now, id, told = lane_now(), ARGV[3], 'ok'
redis.call('ZREM', P .. 'lookups', id)
local before = read(id, 'broker_status', 'state', 'legs', 'reason')
local standing = redis.call('ZSCORE', P .. 'open', id) or ARGV[5] == '1' or before['broker_status'] == ''
if standing then put(order_key(id), 9, tonumber(ARGV[8])) end  -- an end that was seen is not taken back
local next_argument = 9 + 2 * tonumber(ARGV[8])
local records = tonumber(ARGV[next_argument])
keep_records(id, next_argument + 1, records)
if records > 0 then redis.call('HINCRBY', order_key(id), 'records', records) end
if ARGV[4] ~= '' and before['state'] == 'accepted' and standing then
  redis.call('HSET', order_key(id), 'broker_status', ARGV[4], 'updated', now)
  if before['broker_status'] ~= ARGV[4] then
    note(id, 'accepted', now, 'at the broker: ' .. ARGV[4] .. (ARGV[6] ~= '' and ', ' .. ARGV[6] or ''))
  end
  if ARGV[7] == '1' and (before['broker_status'] ~= ARGV[4] or before['legs'] ~= read(id, 'legs')['legs']) then
    told = 'told'
    local words = 'rejected after it was accepted' .. (ARGV[6] ~= '' and ': ' .. ARGV[6] or '')
    redis.call('HSET', order_key(id), 'reason', before['reason'] ~= '' and before['reason'] .. '; ' .. words or words)
    redis.call('ZADD', P .. 'waiting', now, id)
  end
  if ARGV[5] == '1' then
    redis.call('ZREM', P .. 'open', id)
    if not redis.call('ZSCORE', P .. 'waiting', id) then redis.call('ZADD', P .. 'ends', now, id) end
  end
end
return { told }
