#!lua flags=allow-oom
-- Take keys of a deleted experiment away. KEYS: its config, then the keys. ARGV: how long ago it must have been (ms).
local is = redis.call('HMGET', KEYS[1], 'deleted', 'updated')
if is[2] then
  local t = redis.call('TIME')
  local ago = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000) - tonumber(string.match(is[2], '^%d+'))
  if is[1] ~= '1' or (ARGV[1] ~= '0' and ago < tonumber(ARGV[1])) then return 0 end
end
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1
