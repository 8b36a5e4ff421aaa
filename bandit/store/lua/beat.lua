#!lua flags=allow-oom
-- Raise the beat of a lease that is ours. KEYS: lease. ARGV: token.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('HINCRBY', KEYS[1], 'beat', 1)
return 1
