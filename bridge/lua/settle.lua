#!lua flags=allow-oom
-- Put on record what an order came to, with the replies that say so, and take it off the lane. An outcome must be
-- recordable when memory is short. Repeating it (same nonce) changes nothing.
--
-- KEYS  prefix of the lane
-- ARGV  owner, fence, nonce, order id, states it may come from (comma list), new state, reason, take off the lane (1/0),
--       a person waits (1/0), ms that it stays open ('' never, 'forever'), look-up due in ms ('' none), ends now (1/0),
--       number of fields, pairs, number of records, records …
-- Returns {"ok", what came of an exit that covered it: '', 'repeated', 'alarm', or 'covered' when the order itself was
-- withdrawn instead of queued again}, {"lost"} or {"state", the state}
if not owns(ARGV[1], ARGV[2]) then return { 'lost' } end
local id, state, reason = ARGV[4], ARGV[6], ARGV[7]
local order = read(id, 'state', 'settled', 'entry', 'settled_as', 'exit', 'contract', 'ref', 'received', 'kind',
  'called_off')
if order['settled'] == ARGV[3] then return { 'ok', order['settled_as'] } end
local allowed = false
for each in string.gmatch(ARGV[5], '[^,]+') do allowed = allowed or each == order['state'] end
if not allowed then return { 'state', order['state'] } end
local now = lane_now()
local next_argument = put(order_key(id), 14, tonumber(ARGV[13]))
local records = tonumber(ARGV[next_argument])
keep_records(id, next_argument + 1, records)
if records > 0 then redis.call('HINCRBY', order_key(id), 'records', records) end
if is_covered(order) and (state == 'queued' or (state == 'cancelled' and reason == COVERED)) then
  redis.call('HSET', order_key(id), 'settled', ARGV[3], 'settled_as', 'covered')
  withdraw(id, now, COVERED, true)
  return { 'ok', 'covered' }
end
redis.call('HSET', order_key(id), 'state', state, 'reason', reason, 'settled', ARGV[3], 'settled_as', '', 'updated', now)
if order['state'] ~= state or reason ~= '' then note(id, state, now, reason) end
if ARGV[8] == '1' then leave_lane(id, order['entry']) end
if ARGV[9] == '1' then redis.call('ZADD', P .. 'waiting', now, id) else redis.call('ZREM', P .. 'waiting', id) end
if state == 'unknown' then
  redis.call('ZADD', P .. 'doubts', now, id)
  redis.call('ZADD', P .. 'open', '+inf', id)
else
  redis.call('ZREM', P .. 'doubts', id)
  if ARGV[10] == 'forever' then redis.call('ZADD', P .. 'open', '+inf', id)
  elseif ARGV[10] ~= '' then redis.call('ZADD', P .. 'open', now + tonumber(ARGV[10]), id)
  else redis.call('ZREM', P .. 'open', id) end
end
if ARGV[11] ~= '' then redis.call('ZADD', P .. 'lookups', now + tonumber(ARGV[11]), id) end
if ARGV[12] == '1' then redis.call('ZADD', P .. 'ends', now, id) else redis.call('ZREM', P .. 'ends', id) end
local came = ''
if state == 'accepted' and order['exit'] == '' then
  if order['state'] == 'unknown' then came = stood(id, now, ARGV[12] == '1') else redis.call('HDEL', P .. 'covered', id) end
elseif state == 'accepted' then
  remember_covered(id)
elseif state ~= 'unknown' and state ~= 'queued' then
  redis.call('HDEL', P .. 'covered', id)
end
if came ~= '' then redis.call('HSET', order_key(id), 'settled_as', came) end
return { 'ok', came }
