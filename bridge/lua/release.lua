#!lua flags=allow-oom
-- Give a lane up, so that a successor need not wait for the lease to end.
--
-- KEYS  prefix of the lane
-- ARGV  owner, fence
if not owns(ARGV[1], ARGV[2]) then return 0 end
redis.call('HSET', P .. 'lease', 'owner', '', 'until', 0)
return 1
