#!lua
-- Log and store an experiment's config, if the store still has the version that the new one was made from.
-- KEYS: config, log, sums, base, lease, archive, series. ARGV: version before ("0": none), learned before, config (JSON),
-- version, generation, schema, deleted, new ("1": its creation), how long what was deleted stays (ms), config for the
-- log (JSON), the caller's clock (ms), how far ours may be ahead of it and of the log (ms).
if ARGV[7] == '1' then  -- whatever stands there by mistake, it can be deleted
  for i = 1, #KEYS do
    local is, right = redis.call('TYPE', KEYS[i]).ok, i == 2 and 'stream' or 'hash'
    if is ~= right and is ~= 'none' then redis.call('UNLINK', KEYS[i]) end
  end
  if not tonumber(redis.call('HGET', KEYS[1], 'version') or '') then redis.call('HDEL', KEYS[1], 'version', 'learned') end
end
local before = redis.call('HMGET', KEYS[1], 'version', 'generation', 'learned')
local learned = before[3] and before[3] == before[2] and '1' or '0'
if (before[1] or '0') ~= ARGV[1] or learned ~= ARGV[2] then return false end
-- As in append.lua: this entry would vouch for a clock that is wrong, and the log be trimmed by it.
local t = redis.call('TIME')
local ours, most = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000), tonumber(ARGV[11]) + tonumber(ARGV[12])
if ours > most and ARGV[7] ~= '1' then
  local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
  local last_ms = newest and tonumber(string.match(newest[1], '^%d+')) or 0
  if ours > last_ms + tonumber(ARGV[12]) then return {'ahead', ours, last_ms} end
end
local id = redis.call('XADD', KEYS[2], '*', 'x', ARGV[10])
redis.call('HSET', KEYS[1], 'config', ARGV[3], 'version', ARGV[4], 'generation', ARGV[5], 'schema', ARGV[6],
           'deleted', ARGV[7], 'updated', id, 'retention', ARGV[9])
redis.call(ARGV[8] == '1' and 'HSET' or 'HSETNX', KEYS[1], 'identity', id)
for i = 2, #KEYS do
  if ARGV[7] == '1' then redis.call('PEXPIRE', KEYS[i], ARGV[9]) else redis.call('PERSIST', KEYS[i]) end
end
redis.call('PERSIST', KEYS[1])  -- goes last, with `forget`: its generation must not begin again before
return id
