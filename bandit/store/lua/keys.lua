#!lua flags=allow-oom
-- Change API keys and note the change in the audit log, if the store still has the version it was made from.
-- A full store must not keep anybody from revoking a key. KEYS: the keys' hash, the audit stream. ARGV: version before,
-- version after, the entry of the audit log, how many entries are kept, then field and value ("": none any more).
if (redis.call('HGET', KEYS[1], 'version') or '') ~= ARGV[1] then return 0 end
for i = 5, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', KEYS[1], ARGV[i]) else redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
redis.call('HSET', KEYS[1], 'version', ARGV[2])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'e', ARGV[3])
return 1
