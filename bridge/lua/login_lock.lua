#!lua flags=allow-oom
-- One owner at a time of a log-in. KEYS lock; ARGV owner, ms. Returns 1 when it is ours.
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
