#!lua flags=allow-oom
-- Note that all orders of an alert are in their lanes, or that it cannot be completed.
--
-- KEYS  prefix of the home lane
-- ARGV  alert id, why its record cannot be trusted ('' when all is well), and when every one of its orders was refused:
--       why, and its dedupe key (behind the prefix), which it does not keep then
redis.call('ZREM', P .. 'halves', ARGV[1])
local alert = P .. 'alert:' .. ARGV[1]
if redis.call('EXISTS', alert) == 0 then return 0 end
redis.call('HSET', alert, 'half', '')
if ARGV[3] then
  redis.call('HSET', alert, 'state', 'refused', 'reason', ARGV[3])
  if redis.call('HGET', P .. ARGV[4], 'alert') == ARGV[1] then redis.call('DEL', P .. ARGV[4]) end
end
if ARGV[2] ~= '' then redis.call('HSET', alert, 'damaged', ARGV[2], 'reason', ARGV[2]) end
return 1
