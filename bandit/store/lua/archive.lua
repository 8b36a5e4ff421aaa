#!lua flags=allow-oom
-- Say that an archive has the log up to a position, if what is known of it is still what was seen.
-- KEYS: archive. ARGV: the archive's id, its cursor as seen ("": no archive), the new one (two 8-byte numbers each).
local seen = redis.call('HMGET', KEYS[1], 'id', 'cursor')
if (seen[2] or '') ~= ARGV[2] or (seen[1] or ARGV[1]) ~= ARGV[1] then return 0 end
local t = redis.call('TIME')
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'cursor', ARGV[3], 'seen', t[1] * 1000 + math.floor(t[2] / 1000))
return 1
