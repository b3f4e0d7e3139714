-- Put before every script. KEYS[1] is the prefix of all keys of one lane, bridge:{account}: , which also names the slot.

local P = KEYS[1]

-- The lane's clock in milliseconds: the server's TIME, made monotonic. A stored `last` that lies ahead of TIME means that
-- the clock was set back; the difference (`behind`) is added from then on. Also returns TIME itself and `behind`.
-- `floor` is what a worker knows of it: it cannot be earlier.
local function lane_now(floor)
  local time = redis.call('TIME')
  local raw = time[1] * 1000 + math.floor(time[2] / 1000)
  local kept = redis.call('HMGET', P .. 'clock', 'last', 'behind')
  local last, behind = math.max(tonumber(kept[1] or 0), floor or 0), tonumber(kept[2] or 0)
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

local STANDING = { accepted = true, unknown = true, submitting = true }
local STANDING_OR_COMING = { accepted = true, unknown = true, submitting = true, queued = true }

-- An entry before this order in its alert's list whose state is among `states`, or ''. `known` keeps what was found by
-- order, for long lists are walked once for each of their orders.
local function entry_before(id, states, known)
  local passed, found, before = {}, '', redis.call('HGET', order_key(id), 'follows') or ''
  while before ~= '' and #passed < 200 do
    if known[before] then
      found = known[before]
      break
    end
    local order = read(before, 'state', 'exit', 'follows')
    if order['exit'] == '' and states[order['state']] then
      found = before
      break
    end
    passed[#passed + 1] = before
    before = order['follows']
  end
  for _, each in ipairs(passed) do known[each] = found end
  return found
end

-- Take an entry that is covered off the lane before anything of it was sent.
local function withdraw(id, now, reason, may_leave_naked, known)
  local entry = redis.call('HGET', order_key(id), 'entry')
  local naked = may_leave_naked and entry_before(id, STANDING, known or {}) or ''
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
      local order = read(other, 'state', 'exit', 'contract', 'ref', 'alert', 'received', 'rank', 'dry_run')
      local older = order['exit'] == '' and order['alert'] ~= '' and order['alert'] ~= exit['alert']
        and tonumber(order['received']) <= tonumber(exit['received'])
      if older and covers == 'ref:' .. order['ref'] then
        newest = { other, order['state'], tonumber(order['rank']) }
      elseif older and covers == 'at:' .. order['contract'] and order['state'] == 'queued' then
        withdrawn[#withdrawn + 1] = other
      end
    end
    if #entries < 500 then break end
    after = '(' .. entries[#entries][1]
  end
  if string.sub(covers, 1, 4) == 'ref:' then
    for _, other in ipairs(redis.call('ZRANGEBYSCORE', P .. 'open', now, '+inf')) do
      local order = read(other, 'state', 'exit', 'ref', 'received', 'rank')
      if order['exit'] == '' and 'ref:' .. order['ref'] == covers and tonumber(order['received']) <= tonumber(exit['received'])
          and (not newest or tonumber(order['rank']) > newest[3]) then
        newest = { other, order['state'], tonumber(order['rank']) }
      end
    end
  end
  if newest and newest[2] == 'queued' then withdrawn = { newest[1] }
  elseif newest and newest[2] ~= 'accepted' then redis.call('HSET', order_key(newest[1]), 'called_off', '1') end
  local known = {}
  for _, other in ipairs(withdrawn) do withdraw(other, now, reason, exit['kind'] == 'cancel', known) end
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

local MINUTE_MS, KEPT_DAYS_S = 60000, 3 * 86400

-- How many entries were queued before, of those that a limit counts together.
local function counted(limit, now)
  if limit[5] ~= '' then return tonumber(redis.call('GET', P .. 'queued:' .. limit[3] .. ':' .. limit[5]) or 0) end
  redis.call('ZREMRANGEBYSCORE', P .. 'queued:' .. limit[3], '-inf', now - MINUTE_MS)
  return redis.call('ZCARD', P .. 'queued:' .. limit[3])
end

-- Why an entry is one too many for its limits (each is guard, whose, scope, most, day or ''), or ''; then it is counted.
local function over_limit(id, limits, now)
  local told = {}
  for _, limit in ipairs(limits) do
    local count = counted(limit, now)
    if count >= limit[4] then
      local span = limit[5] == '' and 'within a minute' or 'on ' .. limit[5]
      told[#told + 1] = 'guard ' .. limit[1] .. ' of ' .. limit[2] .. ': ' .. string.format('%d', count)
        .. (count == 1 and ' entry was' or ' entries were') .. ' queued ' .. span .. '; at most ' .. string.format('%d', limit[4])
    end
  end
  if #told > 0 then return table.concat(told, '; ') end
  for _, limit in ipairs(limits) do
    local key = P .. 'queued:' .. limit[3]
    if limit[5] == '' then
      redis.call('ZADD', key, now, id)
      redis.call('PEXPIRE', key, 2 * MINUTE_MS)
    else
      redis.call('INCR', key .. ':' .. limit[5])
      redis.call('EXPIRE', key .. ':' .. limit[5], KEPT_DAYS_S)
    end
  end
  return ''
end

-- What was not queued and is more than an entry that does not come about: an exit, or what was to protect an entry that is
-- queued. A refused exit counts where an entry of its contract was ever queued here. Returns the entry, the exit or ''.
local function leaves_open(id, order, state)
  if order['exit'] ~= '' then
    local known = state == 'expired' or redis.call('HEXISTS', P .. 'newest', order['contract']) == 1
    return known and id or ''
  end
  return entry_before(id, STANDING_OR_COMING, {})
end

-- Store `count` orders from ARGV[first] on: each is its number of pairs and the pairs. One that stands already is left
-- alone. Queued ones enter the lane, unless a limit refuses them. `received`: when their alert was received, by this
-- lane's clock.
-- Returns id, state, reason of each as it stands now, and '1' when it was not queued and waits for a person.
local function put_orders(first, count, now, received)
  local answer = {}
  redis.call('HSET', P .. 'clock', 'last', now)
  for _ = 1, count do
    local fields = tonumber(ARGV[first])
    local order = pairs_of(first + 1, fields)
    local id, state, reason = order['id'], order['state'], order['reason']
    if redis.call('EXISTS', order_key(id)) == 0 then
      if state == 'queued' and order['exit'] == '' and marked_on_arrival(order, received) then
        state, reason = 'cancelled', COVERED
      elseif state == 'queued' and order['limits'] then
        reason = over_limit(id, cjson.decode(order['limits']), now)
        if reason ~= '' then state = 'refused' end
      end
      put(order_key(id), first + 1, fields)
      local place = rank(now)
      local open = (state == 'expired' or state == 'refused') and leaves_open(id, order, state) or ''
      if open ~= '' and open ~= id then
        reason = reason .. '; but ' .. open .. ' before it is queued or stands: look whether it is protected'
      end
      redis.call('HSET', order_key(id), 'state', state, 'reason', reason, 'received', received, 'created', now,
        'updated', now, 'rank', place)
      note(id, state, now, reason)
      redis.call('ZADD', P .. 'orders', place, id)
      if state == 'queued' then
        enter_lane(id, order['exit'], place)
        if order['dry_run'] ~= '1' then
          if order['exit'] ~= '' then act(id, now)
          elseif order['contract'] ~= '' then redis.call('HSET', P .. 'newest', order['contract'], place) end
        end
      elseif open ~= '' then
        redis.call('ZADD', P .. 'waiting', now, id)
      else
        redis.call('ZADD', P .. 'ends', now, id)
      end
    end
    local stands = read(id, 'state', 'reason')
    answer[#answer + 1] = id
    answer[#answer + 1] = stands['state']
    answer[#answer + 1] = stands['reason']
    local stopped = stands['state'] == 'expired' or stands['state'] == 'refused'
    answer[#answer + 1] = stopped and redis.call('ZSCORE', P .. 'waiting', id) and '1' or ''
    first = first + 1 + 2 * fields
  end
  return answer
end

-- An accepted cancel or close ends with the broker's word; the doubtful entries that it covers are remembered. A cancel by
-- ref covers the one that it called off.
local function remember_covered(id)
  local exit = read(id, 'kind', 'contract', 'ref', 'received')
  local covers = coverage(exit['kind'], exit['contract'], exit['ref'])
  if covers == '' then return end
  for _, other in ipairs(redis.call('ZRANGE', P .. 'doubts', 0, -1)) do
    local entry = read(other, 'exit', 'contract', 'ref', 'received', 'called_off')
    if entry['exit'] == '' and tonumber(entry['received']) <= tonumber(exit['received'])
        and (covers == 'at:' .. entry['contract'] or (covers == 'ref:' .. entry['ref'] and entry['called_off'] == '1')) then
      redis.call('HSET', P .. 'covered', other, id)
    end
  end
end

-- A doubtful entry stands at the broker after all. When a cancel or close covered it meanwhile, that is carried out
-- again: unless it is too old, or a newer entry of the contract was queued; then a person has to look.
-- `ended`: it stood, and has ended since: there is nothing for a cancel any more.
-- Returns '' (nothing covered it), 'repeated' or 'alarm'.
local function stood(id, now, ended)
  local exit_id = redis.call('HGET', P .. 'covered', id)
  if not exit_id then return '' end
  redis.call('HDEL', P .. 'covered', id)
  if ended and redis.call('HGET', order_key(exit_id), 'kind') == 'cancel' then return '' end
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
