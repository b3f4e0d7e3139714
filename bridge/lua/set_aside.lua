#!lua flags=allow-oom
-- Take an order that cannot be handled off its lane, for a person to look at: `refused` when nothing of it was sent,
-- else `unknown`. One that has ended, or is not there, only leaves the lane. Nothing of it is read but its state.
-- Repeating it changes nothing.
--
-- KEYS  lease, clock, order, history, lane, waiting
-- ARGV  owner, fence, order id, stream entry, reason
-- Returns {"ok", state} or {"lost"}
if not owns(KEYS[1], ARGV[1], ARGV[2]) then return { 'lost' } end
local now = lane_now(KEYS[2])
local state = redis.call('HGET', KEYS[3], 'state')
redis.call('XDEL', KEYS[5], ARGV[4])
if state ~= 'queued' and state ~= 'submitting' and state ~= 'unknown' then return { 'ok', state or '' } end
local set = state == 'queued' and 'refused' or 'unknown'
redis.call('HSET', KEYS[3], 'state', set, 'reason', ARGV[5], 'updated', now)
note(KEYS[4], set, now, ARGV[5])
redis.call('ZADD', KEYS[6], now, ARGV[3])
return { 'ok', set }
