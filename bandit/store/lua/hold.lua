#!lua flags=allow-oom
-- Let nothing be trimmed for a while, or no longer. KEYS: hold. ARGV: for how long (ms; 0: it ends).
if ARGV[1] == '0' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return 1
