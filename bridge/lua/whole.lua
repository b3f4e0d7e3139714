-- Note that all orders of an alert are in their lanes.
--
-- KEYS  prefix of the home lane
-- ARGV  alert id
redis.call('ZREM', P .. 'halves', ARGV[1])
if redis.call('EXISTS', P .. 'alert:' .. ARGV[1]) == 1 then redis.call('HSET', P .. 'alert:' .. ARGV[1], 'half', '') end
return 1
