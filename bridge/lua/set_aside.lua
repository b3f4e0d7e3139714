#!lua flags=allow-oom
-- Take an order that cannot be handled off its lane, for a person to look at: `refused` when nothing of it was sent,
-- else `unknown`. One that has ended, or is not there, only leaves the lane. Nothing of it is read but its state.
-- Repeating it changes nothing.
--
-- KEYS  prefix of the lane
-- ARGV  owner, fence, order id, stream entry, reason
-- Returns {"ok", state} or {"lost"}
if not owns(ARGV[1], ARGV[2]) then return { 'lost' } end
local now, id = lane_now(), ARGV[3]
local state = redis.call('HGET', order_key(id), 'state')
leave_lane(id, ARGV[4])
if not state or state == 'accepted' or state == 'rejected' or state == 'expired' or state == 'refused'
    or state == 'cancelled' or state == 'dry_run' then return { 'ok', state or '' } end
local set = state == 'queued' and 'refused' or 'unknown'
redis.call('HSET', order_key(id), 'state', set, 'reason', ARGV[5], 'updated', now)
note(id, set, now, ARGV[5])
redis.call('ZADD', P .. 'waiting', now, id)
if set == 'unknown' then
  redis.call('ZADD', P .. 'open', '+inf', id)
  redis.call('ZADD', P .. 'doubts', now, id)
end
return { 'ok', set }
