#!lua flags=allow-oom
-- An order waits for a person from now on, whatever its state. Repeating it changes nothing.
--
-- KEYS  prefix of the lane
-- ARGV  owner, fence, order id, reason
-- Returns {"ok"}, {"known"} when this was told already, or {"lost"}
if not owns(ARGV[1], ARGV[2]) then return { 'lost' } end
local id = ARGV[3]
local order = read(id, 'state', 'reason', 'alarm')
if order['alarm'] == ARGV[4] then return { 'known' } end
local now = lane_now()
local reason = order['reason'] == '' and ARGV[4] or order['reason'] .. '; ' .. ARGV[4]
redis.call('HSET', order_key(id), 'reason', reason, 'alarm', ARGV[4], 'updated', now)
note(id, order['state'], now, ARGV[4])
redis.call('ZADD', P .. 'waiting', now, id)
redis.call('ZREM', P .. 'ends', id)
return { 'ok' }
