#!lua flags=allow-oom
-- Take keys of an experiment away, unless it has been made again. KEYS: its config, then the keys.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1
