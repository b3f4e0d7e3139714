#!lua flags=allow-oom
-- Take one request from a log-in's budget, a bucket that refills evenly. Exits go first: one that finds it empty leaves a
-- claim, and nothing else gets a request while a claim stands. A clock that is set back refills nothing by itself.
--
-- KEYS  budget of the log-in
-- ARGV  requests per second, size of the bucket, who asks, 1: an exit asks, requests that have to be left over
-- Returns 0 when one was taken, else the milliseconds after which to ask again
local rate, size, who, exit, spare = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1', tonumber(ARGV[5])
local claims, CLAIM_MS, LONGEST_MS = P .. ':claims', 2000, 3600000
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local kept = redis.call('HMGET', P, 'left', 'at')
local left, at = tonumber(kept[1] or size), math.min(tonumber(kept[2] or now), now)
left = math.min(size, left + (now - at) / 1000 * rate)

redis.call('ZREMRANGEBYSCORE', claims, '-inf', now)
redis.call('ZREMRANGEBYSCORE', claims, now + LONGEST_MS + CLAIM_MS, '+inf')
local ahead = exit and 0 or redis.call('ZCARD', claims)
local wait = math.ceil(math.max(0, 1 + spare + ahead - left) / rate * 1000)
if ahead > 0 then wait = math.max(wait, 50) end
if wait == 0 then
  left = left - 1
  redis.call('ZREM', claims, who)
elseif exit then
  redis.call('ZADD', claims, now + math.min(wait, LONGEST_MS) + CLAIM_MS, who)
  redis.call('PEXPIRE', claims, LONGEST_MS + CLAIM_MS)
end
redis.call('HSET', P, 'left', string.format('%.6f', left), 'at', string.format('%.3f', now))
redis.call('PEXPIRE', P, math.ceil(size / rate * 1000) + 60000)
return wait
