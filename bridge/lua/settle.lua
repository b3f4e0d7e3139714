#!lua flags=allow-oom
-- Put on record what an order came to, with the replies that say so, and take it off the lane. An outcome must be
-- recordable when memory is short. Repeating it (same nonce) changes nothing.
--
-- KEYS  lease, clock, order, history, calls, lane, open, waiting, ends, lookups
-- ARGV  owner, fence, nonce, order id, states it may come from (comma list), new state, reason, take off the lane (1/0),
--       a person waits (1/0), ms that it stays open ('' never, 'forever'), look-up due in ms ('' none), ends now (1/0),
--       number of fields, pairs, number of records, records …
-- Returns {"ok"}, {"lost"} or {"state", the state}
if not owns(KEYS[1], ARGV[1], ARGV[2]) then return { 'lost' } end
local order = redis.call('HMGET', KEYS[3], 'state', 'settled', 'entry')
if order[2] == ARGV[3] then return { 'ok' } end
local allowed = false
for state in string.gmatch(ARGV[5], '[^,]+') do allowed = allowed or state == order[1] end
if not allowed then return { 'state', order[1] or '' } end
local now = lane_now(KEYS[2])
local next_argument = put(KEYS[3], 14, tonumber(ARGV[13]))
redis.call('HSET', KEYS[3], 'state', ARGV[6], 'reason', ARGV[7], 'settled', ARGV[3], 'updated', now)
if order[1] ~= ARGV[6] or ARGV[7] ~= '' then note(KEYS[4], ARGV[6], now, ARGV[7]) end
local records = tonumber(ARGV[next_argument])
for i = next_argument + 1, next_argument + records do redis.call('RPUSH', KEYS[5], ARGV[i]) end
if records > 0 then redis.call('HINCRBY', KEYS[3], 'records', records) end
if ARGV[8] == '1' and order[3] then redis.call('XDEL', KEYS[6], order[3]) end
if ARGV[9] == '1' then redis.call('ZADD', KEYS[8], now, ARGV[4]) else redis.call('ZREM', KEYS[8], ARGV[4]) end
if ARGV[10] == 'forever' then redis.call('ZADD', KEYS[7], '+inf', ARGV[4])
elseif ARGV[10] ~= '' then redis.call('ZADD', KEYS[7], now + tonumber(ARGV[10]), ARGV[4])
else redis.call('ZREM', KEYS[7], ARGV[4]) end
if ARGV[11] ~= '' then redis.call('ZADD', KEYS[10], now + tonumber(ARGV[11]), ARGV[4]) end
if ARGV[12] == '1' then redis.call('ZADD', KEYS[9], now, ARGV[4]) else redis.call('ZREM', KEYS[9], ARGV[4]) end
return { 'ok' }
