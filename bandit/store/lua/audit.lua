#!lua flags=allow-oom
-- The audit log of changes whose own script touches other keys: noted before, confirmed or withdrawn after.
-- KEYS: hash of what is under way, the audit stream. ARGV: id ("": none), entry ("": withdrawn), "1" where it is now
-- under way, how many entries are kept, after how many milliseconds one that is under way has an end nobody knows.
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
if ARGV[1] ~= '' then redis.call('HDEL', KEYS[1], ARGV[1]) end
if ARGV[3] == '1' then
  redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
elseif ARGV[2] ~= '' then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'e', ARGV[2])
end
local open = redis.call('HGETALL', KEYS[1])
for i = 1, #open, 2 do
  local at, entry = string.match(open[i + 1], '^(%d+) (.*)$')
  if not at or tonumber(at) < now - tonumber(ARGV[5]) then
    if at then redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'e', entry) end
    redis.call('HDEL', KEYS[1], open[i])
  end
end
return 1
