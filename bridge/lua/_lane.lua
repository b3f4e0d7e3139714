-- Put before every script. KEYS[1] is the prefix of all keys of one lane, bridge:{account}: , which also names the slot.

local P = KEYS[1]

-- The lane's clock in milliseconds: the server's TIME, made monotonic. A stored `last` that lies ahead of TIME means that
-- the clock was set back; the difference (`behind`) is added from then on. Also returns TIME itself and `behind`.
local function lane_now()
  local time = redis.call('TIME')
  local raw = time[1] * 1000 + math.floor(time[2] / 1000)
  local kept = redis.call('HMGET', P .. 'clock', 'last', 'behind')
  local last, behind = tonumber(kept[1] or 0), tonumber(kept[2] or 0)
  if raw + behind < last then
    behind = last - raw
    redis.call('HSET', P .. 'clock', 'behind', behind)
  end
  return raw + behind, raw, behind
end

-- A rank for the newest-first lists: the moment in microseconds, always above the last one.
local function rank(now)
  local last = tonumber(redis.call('HGET', P .. 'clock', 'rank') or 0)
  local next = math.max(last + 1, now * 1000)
  redis.call('HSET', P .. 'clock', 'rank', string.format('%d', next))
  return string.format('%d', next)
end

-- Whether this worker still owns the lane.
local function owns(owner, fence)
  local kept = redis.call('HMGET', P .. 'lease', 'owner', 'fence')
  return kept[1] == owner and kept[2] == fence
end

local function order_key(id) return P .. 'order:' .. id end

local function note(id, state, now, reason)
  redis.call('RPUSH', P .. 'history:' .. id, cjson.encode({ state, now, reason }))
end

-- Store `count` field/value pairs of ARGV from `first` on in a hash; returns the next unread position.
local function put(key, first, count)
  local pairs = {}
  for i = first, first + 2 * count - 1 do pairs[#pairs + 1] = ARGV[i] end
  if count > 0 then redis.call('HSET', key, unpack(pairs)) end
  return first + 2 * count
end

local function pairs_of(first, count)
  local found = {}
  for i = first, first + 2 * count - 2, 2 do found[ARGV[i]] = ARGV[i + 1] end
  return found
end

-- Append `count` records from ARGV[first] on to an order's calls.
local function keep_records(id, first, count)
  for i = first, first + count - 1 do redis.call('RPUSH', P .. 'calls:' .. id, ARGV[i]) end
end

-- Read the fields of an order as a table.
local function read(id, ...)
  local names, found = { ... }, {}
  local values = redis.call('HMGET', order_key(id), ...)
  for i, name in ipairs(names) do found[name] = values[i] or '' end
  return found
end

-- Marks: what the cancels and closes that were queued here cover, with the receipt of the newest alert that asked for it.
-- What an exit covers: a cancel by `ref` that ref, any other its contract.
local function coverage(kind, contract, ref)
  if kind == 'cancel' and ref ~= '' then return 'ref:' .. ref end
  return contract ~= '' and 'at:' .. contract or ''
end

-- Whether an entry received at `received` came before a mark that covers it. A cancel by `ref` means one order, which it
-- chose among those that were here (`called_off`); its mark is for those that come later.
local function marked(received, names)
  for _, name in ipairs(names) do
    local mark = redis.call('ZSCORE', P .. 'marks', name)
    if mark and tonumber(received) < tonumber(mark) then return true end
  end
  return false
end

local function marked_on_arrival(order, received)
  return marked(received, { 'at:' .. order['contract'], 'ref:' .. order['ref'] })
end

-- The same for one that is here; it needs exit, contract, received and called_off.
local function is_covered(order)
  return order['exit'] == ''
    and (order['called_off'] == '1' or marked(order['received'], { 'at:' .. order['contract'] }))
end

local COVERED = 'withdrawn: a cancel or close that was received after it covers it'

-- An entry before this order in its alert's list that stands at the broker, or may, or ''.
local function stands_before(id)
  local before = redis.call('HGET', order_key(id), 'follows') or ''
  for _ = 1, 100 do
    if before == '' then return '' end
    local order = read(before, 'state', 'exit', 'follows')
    local state = order['state']
    if order['exit'] == '' and (state == 'accepted' or state == 'unknown' or state == 'submitting') then return before end
    before = order['follows']
  end
  return ''
end

-- Take an entry that is covered off the lane before anything of it was sent.
local function withdraw(id, now, reason, may_leave_naked)
  local entry = redis.call('HGET', order_key(id), 'entry')
  local naked = may_leave_naked and stands_before(id) or ''
  if naked ~= '' then reason = reason .. '; but ' .. naked .. ' before it may stand at the broker: look whether it is protected' end
  redis.call('HSET', order_key(id), 'state', 'cancelled', 'reason', reason, 'updated', now)
  note(id, 'cancelled', now, reason)
  if entry then redis.call('XDEL', P .. 'lane', entry) end
  redis.call('ZREM', P .. 'doubts', id)
  redis.call('ZREM', P .. 'open', id)
  if naked ~= '' then redis.call('ZADD', P .. 'waiting', now, id) else redis.call('ZADD', P .. 'ends', now, id) end
end

-- A cancel or close acts when it is queued: the older queued entries that it covers are withdrawn, and it leaves a mark.
local function act(id, now)
  local exit = read(id, 'kind', 'contract', 'ref', 'alert', 'received')
  local covers = coverage(exit['kind'], exit['contract'], exit['ref'])
  if covers == '' then return end
  redis.call('ZADD', P .. 'marks', 'GT', exit['received'], covers)
  local withdrawn, newest, after = {}, nil, '-'
  local reason = 'withdrawn: the ' .. exit['kind'] .. ' ' .. id .. ' covers it'
  while true do
    local entries = redis.call('XRANGE', P .. 'lane', after, '+', 'COUNT', 500)
    for _, entry in ipairs(entries) do
      local other = entry[2][2]
      local order = read(other, 'state', 'exit', 'contract', 'ref', 'alert', 'received')
      local older = order['exit'] == '' and order['alert'] ~= '' and order['alert'] ~= exit['alert']
        and tonumber(order['received']) <= tonumber(exit['received'])
      if older and covers == 'ref:' .. order['ref'] then
        newest = { other, order['state'] }
      elseif older and covers == 'at:' .. order['contract'] and order['state'] == 'queued' then
        withdrawn[#withdrawn + 1] = other
      end
    end
    if #entries < 500 then break end
    after = '(' .. entries[#entries][1]
  end
  if newest and newest[2] == 'queued' then withdrawn = { newest[1] }
  elseif newest then redis.call('HSET', order_key(newest[1]), 'called_off', '1') end
  for _, other in ipairs(withdrawn) do withdraw(other, now, reason, exit['kind'] == 'cancel') end
  redis.call('HSET', order_key(id), 'withdrew', table.concat(withdrawn, ' '))
end

local function enter_lane(id, exit, place)
  redis.call('HSET', order_key(id), 'entry', redis.call('XADD', P .. 'lane', '*', 'order', id))
  if exit ~= '' then redis.call('ZADD', P .. 'exits', place, id) end
end

local function leave_lane(id, entry)
  if entry and entry ~= '' then redis.call('XDEL', P .. 'lane', entry) end
  redis.call('ZREM', P .. 'exits', id)
end

-- Store `count` orders from ARGV[first] on: each is its number of pairs and the pairs. One that stands already is left
-- alone. Queued ones enter the lane. `received`: when their alert was received, by this lane's clock.
-- Returns id, state, reason of each as it stands now.
local function put_orders(first, count, now, received)
  local answer = {}
  for _ = 1, count do
    local fields = tonumber(ARGV[first])
    local order = pairs_of(first + 1, fields)
    local id, state, reason = order['id'], order['state'], order['reason']
    if redis.call('EXISTS', order_key(id)) == 0 then
      if state == 'queued' and order['exit'] == '' and marked_on_arrival(order, received) then
        state, reason = 'cancelled', COVERED
      end
      put(order_key(id), first + 1, fields)
      local place = rank(now)
      redis.call('HSET', order_key(id), 'state', state, 'reason', reason, 'received', received, 'created', now,
        'updated', now, 'rank', place)
      note(id, state, now, reason)
      redis.call('ZADD', P .. 'orders', place, id)
      if state == 'queued' then
        enter_lane(id, order['exit'], place)
        if order['exit'] ~= '' then act(id, now)
        elseif order['contract'] ~= '' then redis.call('HSET', P .. 'newest', order['contract'], place) end
      else
        redis.call('ZADD', P .. 'ends', now, id)
      end
    end
    local stands = read(id, 'state', 'reason')
    answer[#answer + 1] = id
    answer[#answer + 1] = stands['state']
    answer[#answer + 1] = stands['reason']
    first = first + 1 + 2 * fields
  end
  return answer
end

-- A doubtful entry stands at the broker after all. When a cancel or close covered it meanwhile, that is carried out
-- again: unless it is too old, or a newer entry of the contract was queued; then a person has to look.
-- Returns '' (nothing covered it), 'repeated' or 'alarm'.
local function stood(id, now)
  local exit_id = redis.call('HGET', P .. 'covered', id)
  if not exit_id then return '' end
  redis.call('HDEL', P .. 'covered', id)
  local exit = read(exit_id, 'state', 'kind', 'age', 'received', 'max_age', 'rank', 'entry')
  local contract = redis.call('HGET', order_key(id), 'contract') or ''
  local newest = tonumber(redis.call('HGET', P .. 'newest', contract) or 0)
  if exit['state'] == 'queued' then return 'repeated' end
  local fresh = exit['state'] == 'accepted'
    and tonumber(exit['age']) + now - tonumber(exit['received']) <= tonumber(exit['max_age'])
  if fresh and newest <= tonumber(exit['rank']) then
    local reason = 'again: ' .. id .. ', which it covers, turned out to stand'
    redis.call('HINCRBY', order_key(exit_id), 'arming', 1)
    redis.call('HSET', order_key(exit_id), 'state', 'queued', 'reason', reason, 'counter', '', 'withdrew', '', 'updated', now)
    note(exit_id, 'queued', now, reason)
    redis.call('ZREM', P .. 'ends', exit_id)
    enter_lane(exit_id, exit['kind'], exit['rank'])
    return 'repeated'
  end
  local why = fresh and 'a newer entry came' or 'it is too late to repeat it'
  local reason = 'it stands, though the ' .. exit['kind'] .. ' ' .. exit_id .. ' was to end it; that is not repeated: ' .. why
  note(id, 'accepted', now, reason)
  redis.call('HSET', order_key(id), 'reason', reason)
  redis.call('ZADD', P .. 'waiting', now, id)
  return 'alarm'
end
