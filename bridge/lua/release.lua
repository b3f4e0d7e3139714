-- Give a lane up, so that a successor need not wait for the lease to end.
--
-- KEYS  lease
-- ARGV  owner, fence
if not owns(KEYS[1], ARGV[1], ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'owner', '', 'until', 0)
return 1
