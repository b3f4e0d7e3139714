-- Orders that are queued or being sent though the lane's entry is not there, and those whose record is gone.
--
-- KEYS  prefix of the lane
-- ARGV  how many of the newest orders to pass by, how many to look at
-- Returns how many were looked at, then the ids found
local first = tonumber(ARGV[1])
local ids = redis.call('ZREVRANGE', P .. 'orders', first, first + tonumber(ARGV[2]) - 1)
local found = { #ids }
for _, id in ipairs(ids) do
  local order = redis.call('HMGET', order_key(id), 'state', 'entry')
  if not order[1] then
    found[#found + 1] = id
  elseif order[1] == 'queued' or order[1] == 'submitting' then
    local entry = order[2] and redis.pcall('XRANGE', P .. 'lane', order[2], order[2])
    if not entry or entry.err or not entry[1] or entry[1][2][2] ~= id then found[#found + 1] = id end
  end
end
return found
