#!lua flags=no-writes
-- The keys that the entries after one have written to, as they are now. Where that reaches the log's end, everything
-- that was read before and is not here is as it stood at that end, and the config comes along.
-- KEYS: log, config. ARGV: prefix, after, how many entries at most, how many bytes of values, about.
-- The reply: up to where, whether that is the end, the config's fields, the keys: {key, type, expires (ms), value}.
local call, unpack_, sub = redis.call, struct.unpack, string.sub
local log, prefix, most, room = KEYS[1], ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local keys, read, last = {}, {}, ARGV[2]

local function value_of(kind, key)
  if kind == 'i' or kind == 'r' then return 'string', call('GET', key) end
  if kind == 'u' then return 'list', call('LRANGE', key, 0, -1) end
  return 'hash', call('HGETALL', key)
end

local function touch(kind, name)
  local key = prefix .. ':' .. kind .. ':' .. name
  if read[key] then return end
  read[key] = true
  local expires = call('PEXPIRETIME', key)
  if expires == -2 then return end
  local is, value = value_of(kind, key)
  keys[#keys + 1] = {key, is, expires, value}
  room = room - #key
  for _, part in ipairs(type(value) == 'table' and value or {value}) do room = room - #part end
end

local function decision(r)
  local _, flags, _, _, _, x_bytes, caller_bytes = unpack_('<BBBBHHH', r)
  local user_at = 67 + x_bytes + caller_bytes
  if caller_bytes > 0 then touch('i', sub(r, 67 + x_bytes, user_at - 1)) end
  if flags % 16 >= 8 then
    touch('u', sub(r, user_at, user_at + 15))
    return sub(r, user_at, user_at + 15)
  end
end

local function feedback(r)
  local _, _, _, kind, x_bytes, caller_bytes, event_bytes, generation, _, ms, seq = unpack_('<BBBBHHHI4I4I8I4', r)
  local event_at, id = 47 + x_bytes + caller_bytes, string.format('%.0f-%.0f', ms, seq)
  touch('d', id)
  if caller_bytes > 0 then touch('r', sub(r, 47 + x_bytes, event_at - 1)) end
  local found = call('XRANGE', log, id, id)[1]
  local user = found and found[2][1] == 'd' and decision(found[2][2])
  if user then
    touch('e', user .. ':' .. string.format('%.0f', generation) .. ':' .. kind .. ':'
               .. sub(r, event_at, event_at + event_bytes - 1))
  end
end

for _, entry in ipairs(call('XRANGE', log, '(' .. ARGV[2], '+', 'COUNT', most)) do
  local tag, r = entry[2][1], entry[2][2]
  if tag ~= 'x' and string.byte(r) ~= 1 then
    return redis.error_reply('NEWER a log record of format ' .. string.byte(r) .. '; this version reads 1')
  end
  if tag == 'd' then decision(r)
  elseif tag == 'f' then feedback(r)
  elseif tag == 'a' then
    local _, _, _, _, _, _, _, _, _, ms, seq = unpack_('<BBBBHHHI4I4I8I4', r)
    touch('d', string.format('%.0f-%.0f', ms, seq))
  end
  last = entry[1]
  if room < 0 then break end
end
local newest = call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
local done = not newest or newest[1] == last or ARGV[2] == newest[1]
return {last, done and 1 or 0, done and call('HGETALL', KEYS[2]) or {}, keys}
