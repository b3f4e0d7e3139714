#!lua flags=allow-oom
-- Delete a key as long as it holds this value. KEYS key; ARGV value.
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 0
