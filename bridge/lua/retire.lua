-- Forget orders that ended before a moment, with their history and calls.
--
-- KEYS  ends, orders, waiting, then (order, history, calls) of each
-- ARGV  order ids in the same order
for n = 1, #ARGV do
  local first = 4 + 3 * (n - 1)
  redis.call('DEL', KEYS[first], KEYS[first + 1], KEYS[first + 2])
  redis.call('ZREM', KEYS[1], ARGV[n])
  redis.call('ZREM', KEYS[2], ARGV[n])
  redis.call('ZREM', KEYS[3], ARGV[n])
end
return #ARGV
