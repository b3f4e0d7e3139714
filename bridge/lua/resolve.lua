#!lua flags=allow-oom
-- A person decides: an `unknown` order was accepted or rejected; or (`seen`) an alarm of one whose state is certain is
-- ticked off. Repeating it changes nothing.
--
-- KEYS  prefix of the lane
-- ARGV  order id, accepted | rejected | seen, reason, ms that it stays open ('' never, 'forever'), nonce
-- Returns {"ok", '', 'repeated' or 'alarm'}, or {"state", the state} when that cannot be done
local now, id, as = lane_now(), ARGV[1], ARGV[2]
local order = read(id, 'state', 'entry', 'exit', 'resolved', 'resolved_as')
if order['resolved'] == ARGV[5] then return { 'ok', order['resolved_as'] } end
if as == 'seen' then
  if order['state'] == 'unknown' or order['state'] == 'queued' or order['state'] == 'submitting'
      or not redis.call('ZSCORE', P .. 'waiting', id) then return { 'state', order['state'] } end
  redis.call('ZREM', P .. 'waiting', id)
  redis.call('HSET', order_key(id), 'resolved', ARGV[5], 'resolved_as', '')
  note(id, order['state'], now, ARGV[3])
  if not redis.call('ZSCORE', P .. 'open', id) then redis.call('ZADD', P .. 'ends', now, id) end
  return { 'ok', '' }
end
if order['state'] ~= 'unknown' then return { 'state', order['state'] } end
redis.call('HSET', order_key(id), 'state', as, 'reason', ARGV[3], 'updated', now)
note(id, as, now, ARGV[3])
leave_lane(id, order['entry'])
for _, index in ipairs({ 'waiting', 'doubts', 'open' }) do redis.call('ZREM', P .. index, id) end
local came = ''
if as == 'accepted' and order['exit'] == '' then
  redis.call('ZADD', P .. 'open', ARGV[4] == 'forever' and '+inf' or now + tonumber(ARGV[4]), id)
  redis.call('ZADD', P .. 'lookups', now, id)
  came = stood(id, now, false)
else
  if as == 'accepted' then remember_covered(id) end
  redis.call('HDEL', P .. 'covered', id)
  redis.call('ZADD', P .. 'ends', now, id)
end
redis.call('HSET', order_key(id), 'resolved', ARGV[5], 'resolved_as', came)
return { 'ok', came }
