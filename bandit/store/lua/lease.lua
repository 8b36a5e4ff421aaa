#!lua flags=allow-oom
-- Take the lease if it is still as it was seen. KEYS: lease. ARGV: token and beat as seen (empty: none), new holder.
local now = redis.call('HMGET', KEYS[1], 'token', 'beat')
if (now[1] or '') ~= ARGV[1] or (now[2] or '') ~= ARGV[2] then return false end
local count = tonumber(string.match(ARGV[1], '^(%d+)%-') or '0') + 1
local token = string.format('%d-%s', count, ARGV[3])
redis.call('HSET', KEYS[1], 'token', token, 'beat', '0')
return token
