#!lua flags=allow-oom
-- The broker showed us one of our own ids on this account.
--
-- KEYS  prefix of the lane
redis.call('SET', P .. 'shows', '1')
return 1
