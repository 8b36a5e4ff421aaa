#!lua
-- Log and store an experiment's config, if the store still has the version that the new one was made from.
-- KEYS: config, log, sums, base, lease. ARGV: version before ("0": none), learned before, config (JSON), version,
-- generation, schema, deleted, new ("1": its creation), how long what was deleted stays (ms), config for the log (JSON).
local before = redis.call('HMGET', KEYS[1], 'version', 'generation', 'learned')
local learned = before[3] and before[3] == before[2] and '1' or '0'
if (before[1] or '0') ~= ARGV[1] or learned ~= ARGV[2] then return false end
local id = redis.call('XADD', KEYS[2], '*', 'x', ARGV[10])
redis.call('HSET', KEYS[1], 'config', ARGV[3], 'version', ARGV[4], 'generation', ARGV[5], 'schema', ARGV[6],
           'deleted', ARGV[7], 'updated', id)
if ARGV[8] == '1' then redis.call('HSET', KEYS[1], 'identity', id) end
for i = 1, #KEYS do
  if ARGV[7] == '1' then redis.call('PEXPIRE', KEYS[i], ARGV[9]) else redis.call('PERSIST', KEYS[i]) end
end
return id
