#!lua
-- Append one producer's batch to a log, once. The layouts are those of bandit/log/records.py.
-- KEYS: log, config, producer; every other key has the log's hash tag and the prefix ARGV[1].
-- ARGV: prefix, sequence, schema, generation, explicit, attribution, grace, how many kinds, the caller's clock (ms), how far
-- ours may be ahead of it and of the log (ms), 5 arguments a kind, then the items:
-- "d" record caller user window | "f" entry nonce caller user kind credit event own arm | "a" entry nonce caller user
local log, config, producer, prefix = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local sequence, schema, generation = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local schema_number = tonumber(schema)
local explicit, attribution, grace, m = ARGV[5] == '1', ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local EVENTS_MAX, USER_MAX, PRODUCER_MS, PART = 1000, 100, 172800000, 1000

local stored = redis.call('GET', producer)
local last = 0
if stored then
  local at = cmsgpack.unpack(stored)
  if at[1] == sequence then return at[2] end
  last = at[1]
end
if sequence ~= last + 1 then return {'gap', last} end
local now_config = redis.call('HMGET', config, 'schema', 'learned', 'deleted')
if now_config[1] ~= schema or now_config[3] == '1' then return {'stale'} end

local kinds, at = {}, 11
for k = 1, m do
  kinds[k] = {aggregation = ARGV[at], low = tonumber(ARGV[at + 1]), high = tonumber(ARGV[at + 2]),
              clip = ARGV[at + 3] == '1', default = tonumber(ARGV[at + 4])}
  at = at + 5
end

local function parse(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local function ms_of(id) return tonumber(string.match(id, '^%d+')) end

-- An entry of a clock that jumped ahead would end every window, and the log could not be written to for as long.
local t = redis.call('TIME')
local ours, most = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000), tonumber(ARGV[9]) + tonumber(ARGV[10])
if ours > most then
  local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  local last_ms = newest and ms_of(newest[1]) or 0
  if ours > last_ms + tonumber(ARGV[10]) then return {'ahead', ours, last_ms} end
end

local clock
local function now()
  if not clock then
    local t = redis.call('TIME')
    clock = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
    local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
    if newest then clock = math.max(clock, ms_of(newest[1])) end
  end
  return clock
end

-- A decision's record, its head opened: the rest is read where it is needed, for a list is long. Nil where the log has
-- no decision at this entry.
local function fetch(entry)
  local found = redis.call('XRANGE', log, entry, entry)[1]
  if not found or found[2][1] ~= 'd' then return nil end
  local r = found[2][2]
  local _, flags, known, _, k, x_bytes, caller_bytes, gen, _, _, window = struct.unpack('<BBBBHHHI4I4I4I8', r)
  local ms, seq = parse(entry)
  local user_at = 67 + x_bytes + caller_bytes
  return {id = entry, record = r, deferred = flags % 2 == 1, sparse = math.floor(flags / 2) % 2, m = known, k = k,
          generation = gen, ms = ms, seq = seq, window = window, deadline = ms + window, caller_at = 67 + x_bytes,
          user_at = user_at, shown_at = user_at + (math.floor(flags / 8) % 2) * 16}
end

local function nonce_of(d) return string.sub(d.record, 31, 38) end
local function x_of(d) return string.sub(d.record, 67, d.caller_at - 1) end
local function caller_of(d) return string.sub(d.record, d.caller_at, d.user_at - 1) end
local function user_of(d) return string.sub(d.record, d.user_at, d.shown_at - 1) end

-- Whether it showed an arm: its bytes are sought, and count where a position begins.
local function shown(d, arm)
  local sought, from, last = struct.pack('<I4', arm), d.shown_at, d.shown_at + (d.k - 1) * 20
  while from <= last do
    local hit = string.find(d.record, sought, from, true)
    if not hit or hit > last then return false end
    local beside = (hit - d.shown_at) % 20
    if beside == 0 then return true end
    from = hit + 20 - beside
  end
  return false
end

local function is_older_than_log(entry)
  local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  if not oldest then return false end
  local ms, seq = parse(entry)
  local oldest_ms, oldest_seq = parse(oldest[1])
  return ms < oldest_ms or (ms == oldest_ms and seq < oldest_seq)
end

-- Whether a record is of this generation and these kinds, as long as it says, and of this caller.
local function fits(record, caller)
  if #record < 66 then return false end
  local _, flags, known, _, k, x_bytes, caller_bytes, gen = struct.unpack('<BBBBHHHI4', record)
  local shown_at = 67 + x_bytes + caller_bytes + (math.floor(flags / 8) % 2) * 16
  return known == m and gen == generation and k > 0 and #record > shown_at + k * 20
         and string.sub(record, 67 + x_bytes, 66 + x_bytes + caller_bytes) == caller
end

local function decide(record, caller, user, window)
  if not fits(record, caller) then return {'j', 'record', 0, 0, '0-0', '', ''} end
  if caller ~= '' then
    local before = redis.call('GET', prefix .. ':i:' .. caller)
    local d = before and fetch(before)
    if d and d.generation == generation and caller_of(d) == caller then return {'d', before, d.record} end
  end
  local id = redis.call('XADD', log, '*', 'd', record)
  local expires = ms_of(id) + window + grace
  if caller ~= '' then redis.call('SET', prefix .. ':i:' .. caller, id, 'PXAT', expires) end
  if user ~= '' then
    local key = prefix .. ':u:' .. user
    if redis.call('LPUSH', key, id) == 1 then redis.call('PEXPIREAT', key, expires)
    else redis.call('LTRIM', key, 0, USER_MAX - 1); redis.call('PEXPIREAT', key, expires, 'GT') end
  end
  if now_config[2] ~= ARGV[4] then redis.call('HSET', config, 'learned', ARGV[4]); now_config[2] = ARGV[4] end
  return {'d', id, ''}
end

-- Fields of the state of a rewarded or activated decision, and whether there is one; another generation's is none.
local function state_of(d, ...)
  local key = prefix .. ':d:' .. d.id
  local fields = redis.call('HMGET', key, 'g', ...)
  if fields[1] == ARGV[4] then return fields, true end
  if fields[1] then redis.call('DEL', key) end
  return {}, false
end

-- Note fields of the state; it goes once the last moment of the grace period is over.
local function keep(d, is_there, ...)
  local key = prefix .. ':d:' .. d.id
  if is_there then redis.call('HSET', key, ...)
  else redis.call('HSET', key, 'g', ARGV[4], ...); redis.call('PEXPIREAT', key, d.deadline + grace + 1) end
end

-- Credits of an arm as the state has them, or as they are before any feedback: a kind added later starts at 0.
local function credits_of(d, packed)
  local credit = {}
  for k = 1, m do
    if packed then credit[k] = #packed >= 4 * k and struct.unpack('<i4', packed, 4 * k - 3) or 0
    else credit[k] = k <= d.m and kinds[k].default or 0 end
  end
  return credit
end

local CREDITS = '<' .. string.rep('i4', m)
local function pack_credits(credit) return struct.pack(CREDITS, unpack(credit)) end

-- What is credited to each arm of the record, packed as in the log; read a part at a time, for Lua's stack is bounded.
local function arms_and_credits(d, is_there)
  local parts, untouched = {}, pack_credits(credits_of(d, nil))
  for first = 1, d.k, PART do
    local arms, fields = {}, {}
    for place = first, math.min(d.k, first + PART - 1) do
      arms[#arms + 1] = string.sub(d.record, d.shown_at + (place - 1) * 20, d.shown_at + (place - 1) * 20 + 3)
      if is_there then fields[#fields + 1] = 'c:' .. struct.unpack('<I4', arms[#arms]) end
    end
    local known = is_there and redis.call('HMGET', prefix .. ':d:' .. d.id, unpack(fields)) or {}
    for i, arm in ipairs(arms) do
      parts[#parts + 1] = arm .. (known[i] and pack_credits(credits_of(d, known[i])) or untouched)
    end
  end
  return table.concat(parts)
end

local function activate(d, is_there)
  local x, caller = x_of(d), caller_of(d)
  local head = struct.pack('<BBBBHHHI4I4I8I4', 1, d.sparse * 2, m, 0, d.k, #x, #caller, generation, schema_number,
                           d.ms, d.seq)
  redis.call('XADD', log, '*', 'a', head .. nonce_of(d) .. x .. caller .. arms_and_credits(d, is_there))
  keep(d, is_there, 'a', '1')
end

local function answer(status, d, credited, clipped)
  if not d then return {'j', status, 0, 0, '0-0', '', ''} end
  return {'j', status, credited or 0, clipped and 1 or 0, d.id, nonce_of(d), caller_of(d)}
end

local function event_field(arm, kind, event) return 'e:' .. arm .. ':' .. kind .. ':' .. event end

-- A user's event of the caller's own naming: which of the user's decisions it was credited to, a field an arm. Only the
-- event, the last part, may be of any length or have a colon.
local function event_key(user, kind, event)
  return prefix .. ':e:' .. user .. ':' .. ARGV[4] .. ':' .. kind .. ':' .. event
end

-- Keep that an event was credited to decisions, for their window and the grace from now on; an arm's first stay.
local function remember(user, kind, event, credited, window)
  local key, expires = event_key(user, kind, event), now() + window + grace
  for arm, decisions in pairs(credited) do redis.call('HSETNX', key, arm, decisions) end
  if redis.call('PEXPIREAT', key, expires, 'NX') == 0 then redis.call('PEXPIREAT', key, expires, 'GT') end
end

-- What names a decision in such a record, when the log no longer has it.
local function pack_name(d)
  local caller = caller_of(d)
  return struct.pack('<I8I4', d.ms, d.seq) .. nonce_of(d) .. struct.pack('<H', #caller) .. caller
end

-- The decisions that a user's event was credited to, as duplicates are answered, newest first; with an arm named, those
-- credited for that arm.
local function credited_before(user, kind, event, arm)
  local key, found = event_key(user, kind, event), {}
  local fields = arm < 0 and redis.call('HVALS', key) or {redis.call('HGET', key, arm) or ''}
  for _, packed in ipairs(fields) do
    local from = 1
    while from <= #packed do
      local ms, seq, size = struct.unpack('<I8I4xxxxxxxxH', packed, from)
      found[#found + 1] = {ms = ms, seq = seq, said = {
        'j', 'duplicate', 0, 0, string.format('%d-%d', ms, seq), string.sub(packed, from + 12, from + 19),
        string.sub(packed, from + 22, from + 21 + size)}}
      from = from + 22 + size
    end
  end
  if #fields > 1 then  -- a field has its own in that order
    table.sort(found, function(a, b) return a.ms > b.ms or (a.ms == b.ms and a.seq > b.seq) end)
  end
  return found
end

-- Judge feedback on one decision and credit it: the answer, and the arm where it was credited.
local function credit(d, kind, value, event, arm)
  if d.generation ~= generation then return answer('late', d) end
  if arm < 0 then
    if d.k > 1 then return answer('arm', d) end
    arm = struct.unpack('<I4', d.record, d.shown_at)
  elseif not shown(d, arm) then return answer('shown', d) end
  local credits_field, seen_field, known_field = 'c:' .. arm, 'k:' .. arm .. ':' .. kind, event_field(arm, kind, event)
  local fields, is_there = state_of(d, 'n', credits_field, seen_field, known_field, d.deferred and 'a' or 'g')
  local count, packed, seen, known, active, rule = fields[2], fields[3], fields[4], fields[5], fields[6], kinds[kind + 1]
  if event ~= '' and known then return answer('duplicate', d) end
  if rule.aggregation == 'first' and seen then return answer('duplicate', d) end
  if now() > d.deadline then return answer('late', d) end
  count = tonumber(count or '0')
  if count >= EVENTS_MAX then return answer('events', d) end
  local credits = credits_of(d, packed)
  local old = credits[kind + 1]
  local total = (rule.aggregation == 'sum' and seen) and old + value or value
  local clipped = false
  if total < rule.low or total > rule.high then
    if not rule.clip then return answer('range', d) end
    total, clipped = math.max(rule.low, math.min(rule.high, total)), true
  end
  local pending = 0
  if d.deferred and not active then
    if explicit then pending = 1 else activate(d, is_there); is_there = true end
  end
  local before = pack_credits(credits)
  credits[kind + 1] = total
  local after = pack_credits(credits)
  local x, caller = x_of(d), caller_of(d)
  local head = struct.pack('<BBBBHHHI4I4I8I4', 1, pending + d.sparse * 2 + (clipped and 8 or 0), m, kind, #x, #caller,
                           #event, generation, schema_number, d.ms, d.seq)
  redis.call('XADD', log, '*', 'f', head .. nonce_of(d) .. struct.pack('<I4i4', arm, value) .. x .. caller .. event
             .. before .. after)
  if event ~= '' then keep(d, is_there, 'n', count + 1, credits_field, after, seen_field, '1', known_field, '1')
  else keep(d, is_there, 'n', count + 1, credits_field, after, seen_field, '1') end
  return answer('accepted', d, total - old, clipped), arm
end

-- The decision that an id names, or the answer that there is none.
local function find(entry, nonce, caller)
  if entry ~= '' then
    local d = fetch(entry)
    if d then
      if nonce_of(d) ~= nonce or caller_of(d) ~= '' then return nil, answer('unknown') end
      return d
    end
    if is_older_than_log(entry) then return nil, {'j', 'late', 0, 0, entry, nonce, ''} end
    return nil, answer('unknown')
  end
  local at_entry = redis.call('GET', prefix .. ':i:' .. caller)
  local d = at_entry and fetch(at_entry)
  if d and caller_of(d) == caller then return d end
  return nil, answer('unknown')
end

-- Whether a user's decision may be given feedback by user: of this generation, within its window, shown, and where an
-- arm is named, with that arm.
local function takes(d, arm)
  if not d or d.generation ~= generation or now() > d.deadline or (arm >= 0 and not shown(d, arm)) then return false end
  return not d.deferred or state_of(d, 'a')[2]
end

-- The decisions that feedback by user goes to: all that may be given it, newest first, or the first found from one end.
local function targets(user, arm)
  local entries, found = redis.call('LRANGE', prefix .. ':u:' .. user, 0, -1), {}
  local from, to, step = 1, #entries, 1
  if attribution == 'first' then from, to, step = #entries, 1, -1 end
  for i = from, to, step do
    local d = fetch(entries[i])
    if takes(d, arm) then
      found[#found + 1] = d
      if attribution ~= 'all' then break end
    end
  end
  return found
end

-- An event that a decision of the user's has been credited with is a repeat, even if a newer one came since, or the
-- window passed, or the log no longer has that decision.
local function by_user(user, kind, value, event, own, arm)
  local answers = {'all'}
  for _, each in ipairs(own and credited_before(user, kind, event, arm) or {}) do answers[#answers + 1] = each.said end
  if #answers > 1 then return attribution == 'all' and answers or answers[2] end
  local found, credited, window = targets(user, arm), {}, 0
  if #found == 0 then return answer('unknown') end
  for _, d in ipairs(found) do
    local said, to = credit(d, kind, value, event, arm)
    answers[#answers + 1] = said
    if to then credited[to], window = (credited[to] or '') .. pack_name(d), math.max(window, d.window) end
  end
  if own and window > 0 then remember(user, kind, event, credited, window) end
  return attribution == 'all' and answers or answers[2]
end

-- Feedback on the decision that an id names; an event of the caller's own naming is then known by that one's user too.
local function by_id(entry, nonce, caller, kind, value, event, own, arm)
  local d, refusal = find(entry, nonce, caller)
  if not d then return refusal end
  local said, to = credit(d, kind, value, event, arm)
  local user = to and own and user_of(d) or ''
  if user ~= '' then remember(user, kind, event, {[to] = pack_name(d)}, d.window) end
  return said
end

local function activation(entry, nonce, caller)
  local d, refusal = find(entry, nonce, caller)
  if not d then return refusal end
  if d.generation ~= generation then return answer('late', d) end
  local fields, is_there = state_of(d, 'a')
  if not d.deferred or fields[2] then return answer('duplicate', d) end
  if now() > d.deadline then return answer('late', d) end
  activate(d, is_there)
  return answer('activated', d)
end

local reply = {'ok'}
while at <= #ARGV do
  local tag, a = ARGV[at], at
  if tag == 'd' then
    reply[#reply + 1] = decide(ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], tonumber(ARGV[a + 4]))
    at = a + 5
  elseif tag == 'f' then
    local kind, value, event, own, arm = tonumber(ARGV[a + 5]), tonumber(ARGV[a + 6]), ARGV[a + 7], ARGV[a + 8] == '1',
                                         tonumber(ARGV[a + 9])
    if ARGV[a + 4] ~= '' then reply[#reply + 1] = by_user(ARGV[a + 4], kind, value, event, own, arm)
    else reply[#reply + 1] = by_id(ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], kind, value, event, own, arm) end
    at = a + 10
  else
    reply[#reply + 1] = activation(ARGV[a + 1], ARGV[a + 2], ARGV[a + 3])
    at = a + 5
  end
end
redis.call('SET', producer, cmsgpack.pack({sequence, reply}), 'PX', PRODUCER_MS)
return reply
