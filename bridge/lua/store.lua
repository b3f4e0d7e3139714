#!lua flags=allow-oom
-- Keep a text for a while, even when memory is short: a token or ticket that is lost costs a log-in.
-- KEYS key; ARGV text, ms.
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 0
