#!lua flags=allow-oom
-- Count a log-in before it is made, as far as the broker allows one more within the time given. Repeating it counts once.
-- Moments that lie ahead of a clock that was set back count from now.
--
-- KEYS  log-ins of the log-in
-- ARGV  a name for this one, how many are allowed, within how many ms
-- Returns 0 when it may be made, else the milliseconds until enough of the oldest no longer count
local most, within = tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('ZSCORE', P, ARGV[1]) then return 0 end
for _, ahead in ipairs(redis.call('ZRANGEBYSCORE', P, '(' .. now, '+inf')) do redis.call('ZADD', P, now, ahead) end
redis.call('ZREMRANGEBYSCORE', P, '-inf', now - within)
local above = redis.call('ZCARD', P) - most
if above >= 0 then
  return math.max(1, tonumber(redis.call('ZRANGE', P, above, above, 'WITHSCORES')[2]) + within - now)
end
redis.call('ZADD', P, now, ARGV[1])
redis.call('PEXPIRE', P, within)
return 0
