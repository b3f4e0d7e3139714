#!lua flags=allow-oom
-- Whether a cancel or close that was received after this entry covers it.
--
-- KEYS  prefix of the lane
-- ARGV  order id
local order = read(ARGV[1], 'exit', 'contract', 'received', 'called_off')
return order['received'] ~= '' and is_covered(order) and 1 or 0
