#!lua
-- Reserve the memory of a model in every worker, beside those of all other experiments. KEYS: models. ARGV: name, bytes,
-- bytes of all models at most, now (ms). Nil, or how much the others take where it does not fit. What takes no more than
-- it did always fits.
local others, own, all = 0, 0, redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local bytes = tonumber(string.match(all[i + 1], '^%d+')) or 0
  if all[i] == ARGV[1] then own = bytes else others = others + bytes end
end
local need = tonumber(ARGV[2])
if need > own and others + need > tonumber(ARGV[3]) then return others end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[4])
return false
