#!lua flags=allow-oom
-- Write rows of a table, then its cursor. Nothing is written where the lease is not ours, the log has not the entry of
-- a position, or a position would move back (unless to before entries that the log has lost: then what stands there is
-- of no log). A row is its position (two 8-byte numbers) and sums.
-- KEYS: lease, log, table. ARGV: token, cursor ("" for none), then field and row in turn.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end

local function text(ms, seq) return string.format('%.0f-%.0f', ms, seq) end
local known = {}
local function logged(id)
  if known[id] == nil then known[id] = #redis.call('XRANGE', KEYS[2], id, id) == 1 end
  return known[id]
end
local function moves_back(ms, seq, before)
  if not before then return false end
  local bms, bseq = struct.unpack('>I8I8', before)
  return (ms < bms or (ms == bms and seq < bseq)) and logged(text(bms, bseq))
end

for i = 3, #ARGV, 2 do
  local ms, seq = struct.unpack('>I8I8', ARGV[i + 1])
  if not logged(text(ms, seq)) or moves_back(ms, seq, redis.call('HGET', KEYS[3], ARGV[i])) then return 0 end
end
if ARGV[2] ~= '' then
  local ms, seq = struct.unpack('>I8I8', ARGV[2])
  if not logged(text(ms, seq)) or moves_back(ms, seq, redis.call('HGET', KEYS[3], 'cursor')) then return 0 end
end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1]) end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[3], 'cursor', ARGV[2]) end
return 1
