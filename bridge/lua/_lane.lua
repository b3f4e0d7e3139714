-- Put before every script. All keys of a script share one hash tag.

-- The lane's clock in milliseconds: the server's TIME, made monotonic. A stored `last` that lies ahead of TIME means that
-- the clock was set back; the difference (`behind`) is added from then on.
local function lane_now(key)
  local time = redis.call('TIME')
  local raw = time[1] * 1000 + math.floor(time[2] / 1000)
  local kept = redis.call('HMGET', key, 'last', 'behind')
  local last, behind = tonumber(kept[1] or 0), tonumber(kept[2] or 0)
  if raw + behind < last then
    behind = last - raw
    redis.call('HSET', key, 'behind', behind)
  end
  return raw + behind
end

-- A rank for the newest-first lists: the moment in microseconds, always above the last one.
local function rank(key, now)
  local last = tonumber(redis.call('HGET', key, 'rank') or 0)
  local next = math.max(last + 1, now * 1000)
  redis.call('HSET', key, 'rank', string.format('%d', next))
  return string.format('%d', next)
end

-- Whether this worker still owns the lane.
local function owns(lease, owner, fence)
  local kept = redis.call('HMGET', lease, 'owner', 'fence')
  return kept[1] == owner and kept[2] == fence
end

local function note(history, state, now, reason)
  redis.call('RPUSH', history, cjson.encode({ state, now, reason }))
end

-- Store `count` field/value pairs of ARGV from `first` on in a hash; returns the next unread position.
local function put(key, first, count)
  local pairs = {}
  for i = first, first + 2 * count - 1 do pairs[#pairs + 1] = ARGV[i] end
  if count > 0 then redis.call('HSET', key, unpack(pairs)) end
  return first + 2 * count
end

local function field_in_order(first, count, name)
  for i = first, first + 2 * count - 2, 2 do
    if ARGV[i] == name then return ARGV[i + 1] end
  end
  return ''
end

-- Store `count` orders from ARGV[first] on: each is its number of pairs and the pairs; their keys are order, history,
-- order, history … from KEYS[first_key] on. An order that stands already is left alone. Queued ones enter the lane.
local function put_orders(first, count, first_key, now, clock, lane, orders, ends)
  for n = 1, count do
    local order, history = KEYS[first_key + 2 * (n - 1)], KEYS[first_key + 2 * (n - 1) + 1]
    local fields = tonumber(ARGV[first])
    local id = field_in_order(first + 1, fields, 'id')
    local state = field_in_order(first + 1, fields, 'state')
    if redis.call('EXISTS', order) == 0 then
      put(order, first + 1, fields)
      local place = rank(clock, now)
      redis.call('HSET', order, 'enqueued', now, 'created', now, 'updated', now, 'rank', place)
      note(history, state, now, field_in_order(first + 1, fields, 'reason'))
      redis.call('ZADD', orders, place, id)
      if state == 'queued' then
        redis.call('HSET', order, 'entry', redis.call('XADD', lane, '*', 'order', id))
      else
        redis.call('ZADD', ends, now, id)
      end
    end
    first = first + 1 + 2 * fields
  end
end
