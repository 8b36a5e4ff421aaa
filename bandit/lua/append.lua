#!lua
-- Append one producer's batch to a log, once. The layouts are those of bandit/log.py.
-- KEYS: log, config, producer; every other key has the log's hash tag and the prefix ARGV[1].
-- ARGV: prefix, sequence, schema, generation, explicit, attribution, grace, how many kinds, 5 numbers a kind, then the
-- items: "d" record caller user window | "f" entry nonce caller user kind credit event own arm | "a" entry nonce caller user
local log, config, producer, prefix = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local sequence, schema, generation = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local explicit, attribution, grace, m = ARGV[5] == '1', ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local EVENTS_MAX, USER_MAX, PRODUCER_MS = 1000, 100, 172800000
local SUM, FIRST, LAST = 0, 1, 2

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

local kinds, at = {}, 9
for k = 1, m do
  kinds[k] = {aggregation = tonumber(ARGV[at]), low = tonumber(ARGV[at + 1]), high = tonumber(ARGV[at + 2]),
              clip = ARGV[at + 3] == '1', default = tonumber(ARGV[at + 4])}
  at = at + 5
end

local function ms_of(id) return tonumber(string.match(id, '^%d+')) end
local function seq_of(id) return tonumber(string.match(id, '%d+$')) end

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

-- A decision's record, opened; nil where the log has no decision at this entry.
local function fetch(entry)
  local found = redis.call('XRANGE', log, entry, entry)[1]
  if not found or found[2][1] ~= 'd' then return nil end
  local r = found[2][2]
  local _, flags, known, _, k, x_bytes, caller_bytes, gen, _, _, window = struct.unpack('<BBBBHHHI4I4I4I8', r)
  local d = {id = entry, record = r, deferred = flags % 2 == 1, sparse = math.floor(flags / 2) % 2, m = known,
             generation = gen, deadline = ms_of(entry) + window, window = window, nonce = string.sub(r, 31, 38),
             x = string.sub(r, 67, 66 + x_bytes), caller = string.sub(r, 67 + x_bytes, 66 + x_bytes + caller_bytes),
             arms = {}, state = prefix .. ':d:' .. entry}
  local user_at = 67 + x_bytes + caller_bytes
  local from = user_at + (math.floor(flags / 8) % 2) * 16
  d.user = string.sub(r, user_at, from - 1)
  for place = 1, k do d.arms[place] = struct.unpack('<I4', r, from + (place - 1) * 20) end
  return d
end

local function is_older_than_log(entry)
  local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  if not oldest then return false end
  local a, b = ms_of(entry), ms_of(oldest[1])
  return a < b or (a == b and seq_of(entry) < seq_of(oldest[1]))
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
    if d and d.generation == generation and d.caller == caller then return {'d', before, d.record} end
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

-- The state of a rewarded or activated decision; another generation's counts as absent.
local function state_of(d)
  local fields = {}
  local flat = redis.call('HGETALL', d.state)
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  if fields.g == ARGV[4] then return fields end
  if fields.g then redis.call('DEL', d.state) end
  return {}
end

-- One field of it.
local function noted(d, field)
  local found = redis.call('HMGET', d.state, 'g', field)
  return found[1] == ARGV[4] and found[2]
end

local function credits_of(d, fields, arm)
  local packed, credit = fields['c:' .. arm], {}
  for k = 1, m do
    if packed then credit[k] = #packed >= 4 * k and struct.unpack('<i4', packed, 4 * k - 3) or 0
    else credit[k] = k <= d.m and kinds[k].default or 0 end
  end
  return credit
end

local function pack_credits(credit)
  local parts = {}
  for k = 1, m do parts[k] = struct.pack('<i4', credit[k]) end
  return table.concat(parts)
end

-- Note fields of the state; it goes once the last moment of the grace period is over.
local function keep(d, ...)
  redis.call('HSET', d.state, 'g', ARGV[4], ...)
  redis.call('PEXPIREAT', d.state, d.deadline + grace + 1)
end

local function activate(d, fields)
  local parts = {}
  for place, arm in ipairs(d.arms) do parts[place] = struct.pack('<I4', arm) .. pack_credits(credits_of(d, fields, arm)) end
  local head = struct.pack('<BBBBHHHI4I4I8I4', 1, d.sparse * 2, m, 0, #d.arms, #d.x, #d.caller, generation,
                           tonumber(schema), ms_of(d.id), seq_of(d.id))
  redis.call('XADD', log, '*', 'a', head .. d.nonce .. d.x .. d.caller .. table.concat(parts))
  keep(d, 'a', '1')
end

local function answer(status, d, credited, clipped)
  return {'j', status, credited or 0, clipped and 1 or 0, d and d.id or '0-0', d and d.nonce or '', d and d.caller or ''}
end

local function shown(d, arm)
  for _, a in ipairs(d.arms) do if a == arm then return true end end
  return false
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
  return struct.pack('<I8I4', ms_of(d.id), seq_of(d.id)) .. d.nonce .. struct.pack('<H', #d.caller) .. d.caller
end

-- The decisions that a user's event was credited to, newest first; with an arm named, those credited for that arm.
local function credited_before(user, kind, event, arm)
  local key, found = event_key(user, kind, event), {}
  local fields = arm < 0 and redis.call('HVALS', key) or {redis.call('HGET', key, arm) or ''}
  for _, packed in ipairs(fields) do
    local from = 1
    while from <= #packed do
      local ms, seq, size = struct.unpack('<I8I4xxxxxxxxH', packed, from)
      found[#found + 1] = {ms = ms, seq = seq, id = string.format('%d-%d', ms, seq),
                           nonce = string.sub(packed, from + 12, from + 19),
                           caller = string.sub(packed, from + 22, from + 21 + size)}
      from = from + 22 + size
    end
  end
  table.sort(found, function(a, b) return a.ms > b.ms or (a.ms == b.ms and a.seq > b.seq) end)
  return found
end

-- Judge feedback on one decision and credit it: the answer, and the arm where it was credited.
local function credit(d, kind, value, event, arm)
  if d.generation ~= generation then return answer('late', d) end
  if arm < 0 then
    if #d.arms > 1 then return answer('arm', d) end
    arm = d.arms[1]
  elseif not shown(d, arm) then return answer('shown', d) end
  local fields, rule = state_of(d), kinds[kind + 1]
  local seen = fields['k:' .. arm .. ':' .. kind]
  if event ~= '' and fields[event_field(arm, kind, event)] then return answer('duplicate', d) end
  if rule.aggregation == FIRST and seen then return answer('duplicate', d) end
  if now() > d.deadline then return answer('late', d) end
  local count = tonumber(fields.n or '0')
  if count >= EVENTS_MAX then return answer('events', d) end
  local old = credits_of(d, fields, arm)
  local total = (rule.aggregation == SUM and seen) and old[kind + 1] + value or value
  local clipped = false
  if total < rule.low or total > rule.high then
    if not rule.clip then return answer('range', d) end
    total, clipped = math.max(rule.low, math.min(rule.high, total)), true
  end
  local pending = 0
  if d.deferred and not fields.a then
    if explicit then pending = 1 else activate(d, fields) end
  end
  local before = pack_credits(old)
  local credited = total - old[kind + 1]
  old[kind + 1] = total
  local after = pack_credits(old)
  local head = struct.pack('<BBBBHHHI4I4I8I4', 1, pending + d.sparse * 2 + (clipped and 8 or 0), m, kind, #d.x, #d.caller,
                           #event, generation, tonumber(schema), ms_of(d.id), seq_of(d.id))
  redis.call('XADD', log, '*', 'f', head .. d.nonce .. struct.pack('<I4i4', arm, value) .. d.x .. d.caller .. event
             .. before .. after)
  keep(d, 'n', count + 1, 'c:' .. arm, after, 'k:' .. arm .. ':' .. kind, '1',
       event ~= '' and event_field(arm, kind, event) or 'g', event ~= '' and '1' or ARGV[4])
  return answer('accepted', d, credited, clipped), arm
end

-- The decision that an id names, or the answer that there is none.
local function find(entry, nonce, caller)
  if entry ~= '' then
    local d = fetch(entry)
    if d then
      if d.nonce ~= nonce or d.caller ~= '' then return nil, answer('unknown') end
      return d
    end
    if is_older_than_log(entry) then return nil, {'j', 'late', 0, 0, entry, nonce, ''} end
    return nil, answer('unknown')
  end
  local at_entry = redis.call('GET', prefix .. ':i:' .. caller)
  local d = at_entry and fetch(at_entry)
  if d and d.caller == caller then return d end
  return nil, answer('unknown')
end

-- A user's decisions of this generation, newest first; with an arm named, those that showed it.
local function of_user(user, arm)
  local found = {}
  for _, entry in ipairs(redis.call('LRANGE', prefix .. ':u:' .. user, 0, -1)) do
    local d = fetch(entry)
    if d and d.generation == generation and (arm < 0 or shown(d, arm)) then found[#found + 1] = d end
  end
  return found
end

-- Whether feedback by user may go to a decision: within its window, and shown.
local function is_open(d) return now() <= d.deadline and (not d.deferred or noted(d, 'a')) end

-- An event that a decision of the user's has been credited with is a repeat, even if a newer one came since, or the
-- window passed, or the log no longer has that decision.
local function by_user(user, kind, value, event, own, arm)
  local answers = {'all'}
  for _, d in ipairs(own and credited_before(user, kind, event, arm) or {}) do
    answers[#answers + 1] = answer('duplicate', d)
  end
  if #answers > 1 then return attribution == '2' and answers or answers[2] end
  local found, credited, window = {}, {}, 0
  for _, d in ipairs(of_user(user, arm)) do
    if is_open(d) then found[#found + 1] = d end
  end
  if #found == 0 then return answer('unknown') end
  if attribution ~= '2' then found = {attribution == '0' and found[1] or found[#found]} end
  for _, d in ipairs(found) do
    local said, to = credit(d, kind, value, event, arm)
    answers[#answers + 1] = said
    if to then credited[to], window = (credited[to] or '') .. pack_name(d), math.max(window, d.window) end
  end
  if own and window > 0 then remember(user, kind, event, credited, window) end
  return attribution == '2' and answers or answers[2]
end

-- Feedback on the decision that an id names; an event of the caller's own naming is then known by that one's user too.
local function by_id(entry, nonce, caller, kind, value, event, own, arm)
  local d, refusal = find(entry, nonce, caller)
  if not d then return refusal end
  local said, to = credit(d, kind, value, event, arm)
  if to and own and d.user ~= '' then remember(d.user, kind, event, {[to] = pack_name(d)}, d.window) end
  return said
end

local function activation(entry, nonce, caller)
  local d, refusal = find(entry, nonce, caller)
  if not d then return refusal end
  if d.generation ~= generation then return answer('late', d) end
  local fields = state_of(d)
  if not d.deferred or fields.a then return answer('duplicate', d) end
  if now() > d.deadline then return answer('late', d) end
  activate(d, fields)
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
