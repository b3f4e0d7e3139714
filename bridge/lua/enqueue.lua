-- Take an alert in: its dedupe key, the alert with all its rendered orders, and the orders of its home account, as one
-- act. The same delivery again (same nonce) changes nothing and answers the same.
--
-- KEYS  dedupe, alert, alerts, clock, lane, orders, ends, then (order, history) of each order of the home account
-- ARGV  alert id, nonce, dedupe ms, takes key (1/0), fingerprint, number of alert fields, their pairs,
--       number of orders, then each order's number of fields and pairs
-- Returns {"new"} or {"duplicate", first alert's id, 1 when its body was another}
local now = lane_now(KEYS[4])
local first = redis.call('HMGET', KEYS[1], 'alert', 'nonce', 'fingerprint')
if first[1] and first[2] ~= ARGV[2] then
  if first[1] ~= ARGV[1] then
    put(KEYS[2], 7, tonumber(ARGV[6]))
    redis.call('HSET', KEYS[2], 'state', 'duplicate', 'duplicate_of', first[1], 'received', now, 'orders', '[]')
    redis.call('ZADD', KEYS[3], rank(KEYS[4], now), ARGV[1])
  end
  return { 'duplicate', first[1], first[3] ~= ARGV[5] and 1 or 0 }
end
if first[1] then return { 'new' } end
if ARGV[4] == '1' then
  redis.call('HSET', KEYS[1], 'alert', ARGV[1], 'nonce', ARGV[2], 'fingerprint', ARGV[5])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
local next_argument = put(KEYS[2], 7, tonumber(ARGV[6]))
redis.call('HSET', KEYS[2], 'received', now)
redis.call('ZADD', KEYS[3], rank(KEYS[4], now), ARGV[1])
put_orders(next_argument + 1, tonumber(ARGV[next_argument]), 8, now, KEYS[4], KEYS[5], KEYS[6], KEYS[7])
return { 'new' }
