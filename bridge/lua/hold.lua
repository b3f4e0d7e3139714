#!lua flags=allow-oom
-- Everything of a log-in waits: of several waits the one that ends last counts. KEYS the wait; ARGV reason, ms.
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return 0
