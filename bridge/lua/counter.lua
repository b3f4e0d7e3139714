#!lua flags=allow-oom
-- The next number of a counter that starts at the epoch's seconds.
--
-- KEYS  counter
local time = redis.call('TIME')
local number = math.max(tonumber(redis.call('GET', KEYS[1]) or 0) + 1, tonumber(time[1]))
redis.call('SET', KEYS[1], string.format('%d', number))
return number
