#!lua flags=allow-oom
-- Drop the entries before the cut. The base must have passed the last of them, and the checkpoints the cut; the config
-- in force there is kept with the base. Where there is an archive it must have them, and no backup may be reading.
-- KEYS: lease, log, base, sums, archive, hold. ARGV: token, cut, config.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
local ms, seq = string.match(ARGV[2], '^(%d+)%-(%d+)$')
ms, seq = tonumber(ms), tonumber(seq)
if #redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2]) ~= 1 then return 0 end
local sums = redis.call('HGET', KEYS[4], 'cursor')
if not sums then return 0 end
local sms, sseq = struct.unpack('>I8I8', sums)
if sms < ms or (sms == ms and sseq < seq) then return 0 end
local before = redis.call('XREVRANGE', KEYS[2], '(' .. ARGV[2], '-', 'COUNT', 1)[1]
if not before then return 0 end
local base = redis.call('HGET', KEYS[3], 'cursor')
if not base then return 0 end
local bms, bseq = struct.unpack('>I8I8', base)
local lms, lseq = string.match(before[1], '^(%d+)%-(%d+)$')
if bms ~= tonumber(lms) or bseq ~= tonumber(lseq) then return 0 end
local archived = redis.call('HGET', KEYS[5], 'cursor')
if archived then
  local ams, aseq = struct.unpack('>I8I8', archived)
  if ams < bms or (ams == bms and aseq < bseq) then return 0 end
end
if redis.call('EXISTS', KEYS[6]) == 1 then return 0 end
if ARGV[3] ~= '' then redis.call('HSET', KEYS[3], 'config', ARGV[3]) end
redis.call('XTRIM', KEYS[2], 'MINID', '=', ARGV[2])
return 1
