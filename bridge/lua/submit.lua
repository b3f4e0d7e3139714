-- Put a write on record before its first byte leaves: state `submitting`, attempt, send deadline, the call itself and
-- the reads before it. The last look at the order's age. Repeating it (same record number) changes nothing.
--
-- KEYS  lease, clock, order, history, calls
-- ARGV  owner, fence, record number after this, attempt, ms until the send deadline, client order id, counter,
--       look at the age (1/0), number of records, records …
-- Returns {"ok", send deadline}, {"expired", age}, {"lost"} (another worker owns the lane) or {"state", the state}
if not owns(KEYS[1], ARGV[1], ARGV[2]) then return { 'lost' } end
local now = lane_now(KEYS[2])
local order = redis.call('HMGET', KEYS[3], 'state', 'records', 'age', 'enqueued', 'max_age', 'deadline')
if tonumber(order[2] or 0) >= tonumber(ARGV[3]) then return { 'ok', order[6] } end
if order[1] ~= 'queued' and order[1] ~= 'submitting' then return { 'state', order[1] or '' } end
local age = tonumber(order[3]) + now - tonumber(order[4])
if ARGV[8] == '1' and age > tonumber(order[5]) then return { 'expired', age } end
local deadline = now + tonumber(ARGV[5])
redis.call('HSET', KEYS[3], 'state', 'submitting', 'attempt', ARGV[4], 'deadline', deadline, 'records', ARGV[3],
  'client_order_id', ARGV[6], 'counter', ARGV[7], 'fence', ARGV[2], 'updated', now)
redis.call('HSETNX', KEYS[3], 'submitted', now)
if order[1] == 'queued' then note(KEYS[4], 'submitting', now, '') end
for i = 10, 9 + tonumber(ARGV[9]) do redis.call('RPUSH', KEYS[5], ARGV[i]) end
return { 'ok', deadline }
