#!lua flags=allow-oom
-- Forget orders that ended before a moment, with their history and calls, and marks that are as old.
--
-- KEYS  prefix of the lane
-- ARGV  the moment in ms, order ids …
for n = 2, #ARGV do
  redis.call('DEL', order_key(ARGV[n]), P .. 'history:' .. ARGV[n], P .. 'calls:' .. ARGV[n],
    P .. 'late:' .. ARGV[n])
  for _, index in ipairs({ 'ends', 'orders', 'waiting', 'exits', 'doubts' }) do redis.call('ZREM', P .. index, ARGV[n]) end
  redis.call('HDEL', P .. 'covered', ARGV[n])
end
redis.call('ZREMRANGEBYSCORE', P .. 'marks', '-inf', ARGV[1])
return #ARGV - 1
