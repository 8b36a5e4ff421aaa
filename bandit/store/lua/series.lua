#!lua flags=allow-oom
-- Write rows of the series and its cursor, where the lease is ours, the cursor is still that which the rows were made
-- from, and the log has the entry that they go up to. KEYS: lease, log, series. ARGV: token, cursor before ("" for
-- none), cursor, how many rows, then field and row in turn, then the fields of rows that are not kept any more.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
if (redis.call('HGET', KEYS[3], 'cursor') or '') ~= ARGV[2] then return 0 end
local ms, seq = struct.unpack('>I8I8', ARGV[3])
local id = string.format('%.0f-%.0f', ms, seq)
if #redis.call('XRANGE', KEYS[2], id, id) ~= 1 then return 0 end
local rows_end = 4 + 2 * tonumber(ARGV[4])
for i = rows_end + 1, #ARGV do redis.call('HDEL', KEYS[3], ARGV[i]) end
for i = 5, rows_end, 2 do redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[3], 'cursor', ARGV[3])
return 1
