#!lua flags=allow-oom
-- Put a write on record before its first byte leaves: state `submitting`, attempt, send deadline, the call itself and
-- the reads before it. The last look at the order's age, and at what covers it. Repeating it (same record number)
-- changes nothing.
--
-- KEYS  prefix of the lane
-- ARGV  owner, fence, order id, record number after this, attempt, ms until the send deadline, client order id, counter,
--       look at the age (1/0), look at marks (1/0), earliest that the lane's clock can be, number of records, records …
-- Returns {"ok", ms until the send deadline}, {"expired", age}, {"covered"}, {"lost"} (another worker owns the lane) or
-- {"state", the state}
if not owns(ARGV[1], ARGV[2]) then return { 'lost' } end
local now, id = lane_now(tonumber(ARGV[11])), ARGV[3]
local order = read(id, 'state', 'records', 'age', 'received', 'max_age', 'deadline', 'exit', 'contract',
  'called_off')
if (tonumber(order['records']) or 0) >= tonumber(ARGV[4]) then return { 'ok', tonumber(order['deadline']) - now } end
if order['state'] ~= 'queued' and order['state'] ~= 'submitting' and order['state'] ~= 'unknown' then
  return { 'state', order['state'] }
end
local age = tonumber(order['age']) + now - tonumber(order['received'])
local within = tonumber(ARGV[6])
if ARGV[9] == '1' then
  if age > tonumber(order['max_age']) then return { 'expired', age } end
  within = math.min(within, tonumber(order['max_age']) - age)
end
if ARGV[10] == '1' and is_covered(order) then return { 'covered' } end
redis.call('HSET', order_key(id), 'state', 'submitting', 'attempt', ARGV[5], 'deadline', now + within, 'records', ARGV[4],
  'client_order_id', ARGV[7], 'counter', ARGV[8], 'fence', ARGV[2], 'updated', now)
redis.call('HSETNX', order_key(id), 'submitted', now)
if order['state'] ~= 'submitting' then note(id, 'submitting', now, '') end
if order['state'] == 'unknown' then
  redis.call('ZREM', P .. 'doubts', id)
  redis.call('ZREM', P .. 'open', id)
end
keep_records(id, 13, tonumber(ARGV[12]))
return { 'ok', within }
