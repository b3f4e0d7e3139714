-- Take an alert in: its dedupe key, the alert with all its rendered orders, and the orders of its home account, as one
-- act. The same delivery again (same nonce) changes nothing and answers the same.
--
-- KEYS  prefix of the home lane
-- ARGV  dedupe key (behind the prefix), alert id, nonce, dedupe ms, takes key (0: no order is to be queued, 1: only here,
--       2: elsewhere too), fingerprint, half-written (1/0), the asking process, its steady clock in ms, number of alert
--       fields, their pairs, number of orders, then each order's number of fields and pairs
-- Returns {"new", TIME in ms, id, state, reason, waits, …} or {"duplicate", first alert's id, 1 when its body was another}

-- The reasons of what `put_orders` answered when none of the orders is queued, or ''.
local function all_refused(answer)
  local told, known = {}, {}
  for i = 1, #answer, 4 do
    if answer[i + 1] ~= 'refused' and answer[i + 1] ~= 'expired' then return '' end
    if not known[answer[i + 2]] then told[#told + 1] = answer[i + 2] end
    known[answer[i + 2]] = true
  end
  return table.concat(told, '; ')
end

local now, raw = lane_now()
local same, alert = P .. ARGV[1], P .. 'alert:' .. ARGV[2]
local first = redis.call('HMGET', same, 'alert', 'nonce', 'fingerprint', 'process', 'steady', 'window', 'until')
if first[1] and first[2] ~= ARGV[3] then
  -- The window by the steady clock of the process that began it; by the lane's for another one. The key itself is kept
  -- for longer: the server's clock may jump.
  local over
  if first[4] == ARGV[8] then over = tonumber(ARGV[9]) - tonumber(first[5]) > tonumber(first[6])
  else over = now > tonumber(first[7] or now) end
  if over then
    redis.call('DEL', same)
    first = {}
  end
end
if first[1] and first[2] ~= ARGV[3] then
  if first[1] ~= ARGV[2] then
    put(alert, 11, tonumber(ARGV[10]))
    redis.call('HSET', alert, 'state', 'duplicate', 'duplicate_of', first[1], 'received', now, 'orders', '[]')
    redis.call('ZADD', P .. 'alerts', rank(now), ARGV[2])
  end
  return { 'duplicate', first[1], first[3] ~= ARGV[6] and 1 or 0 }
end
local next_argument = 11 + 2 * tonumber(ARGV[10])
if first[1] then
  raw = tonumber(redis.call('HGET', alert, 'raw') or raw)
else
  put(alert, 11, tonumber(ARGV[10]))
  redis.call('HSET', alert, 'received', now, 'raw', raw)
  redis.call('ZADD', P .. 'alerts', rank(now), ARGV[2])
  if ARGV[7] == '1' then redis.call('ZADD', P .. 'halves', now, ARGV[2]) end
end
local answer = put_orders(next_argument + 1, tonumber(ARGV[next_argument]), now, now)
if not first[1] and ARGV[5] ~= '0' then
  -- An alert takes its key when one of its orders is queued. Limits refuse them only here; those elsewhere are not known yet.
  local told = ARGV[5] == '1' and all_refused(answer) or ''
  if told ~= '' then redis.call('HSET', alert, 'state', 'refused', 'reason', told) end
  if told == '' then
    redis.call('HSET', same, 'alert', ARGV[2], 'nonce', ARGV[3], 'fingerprint', ARGV[6], 'process', ARGV[8], 'steady', ARGV[9],
      'window', ARGV[4], 'until', now + tonumber(ARGV[4]))
    redis.call('PEXPIRE', same, tonumber(ARGV[4]) + 7200000)
  end
end
table.insert(answer, 1, raw)
table.insert(answer, 1, 'new')
return answer
