#!lua
-- Append one producer's batch to a log, once. The layouts are those of bandit/log/records.py.
-- KEYS: log, config, producer; every other key has the log's hash tag and the prefix ARGV[1].
-- ARGV: prefix, sequence, schema, generation, the caller's clock (ms), the rules packed, a tag an item, then the items:
-- d record | D record caller user window | S as D, and how old the user's last one may be | f entry packed event | c caller packed event | u user packed event
-- | a entry nonce | A caller. A feedback's packed: kind, credit, whether the event's id is the caller's own, arm, nonce.
-- Refunds are F, C and U: as f, c and u, and then the event that is taken back of; a credit of 0 is all that is left.
-- The reply: "ok", then for each item a decision's new entry, or "=" ("~": of the user's last one), the entry that it
-- has had, a space and its record;
-- or what became of feedback: a letter, credited, clipped, and of a decision that there is: entry, a space, the nonce's
-- length, nonce, caller; or a list of these. redis_wire.py has the other side.
local call, pack, unpack_, sub, find, floor = redis.call, struct.pack, struct.unpack, string.sub, string.find, math.floor
local ARGV = ARGV
local log, config, producer, prefix = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local sequence, schema, generation = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local schema_number = tonumber(schema)
local EVENTS_MAX, USER_MAX, PRODUCER_MS, PART, PIECE, ITEMS, SHORT = 1000, 100, 172800000, 1000, 8, 8, 64
local MINUTE = 60000

local stored = call('GET', producer)
local last = 0
if stored then
  local at = cmsgpack.unpack(stored)
  if at[1] == sequence then return at[2] end
  last = at[1]
end
if sequence ~= last + 1 then return {'gap', last} end
local now_config = call('HMGET', config, 'schema', 'learned', 'deleted')
if now_config[1] ~= schema or now_config[3] == '1' then return {'stale'} end

local explicit, m, grace, ahead, refunds, attribution, rules_at = unpack_('<BHi8i8i8s', ARGV[6])
local kinds = {}
for k = 1, m do
  local rule = {}
  rule.aggregation, rule.low, rule.high, rule.clip, rule.default, rules_at = unpack_('<si8i8Bi8', ARGV[6], rules_at)
  kinds[k] = rule
end

local function parse(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local function ms_of(id) return tonumber(string.match(id, '^%d+')) end

-- An entry of a clock that jumped ahead would end every window, and the log could not be written to for as long.
local t = call('TIME')
local ours, most = tonumber(t[1]) * 1000 + floor(tonumber(t[2]) / 1000), tonumber(ARGV[5]) + ahead
if ours > most then
  local newest = call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  local last_ms = newest and ms_of(newest[1]) or 0
  if ours > last_ms + ahead then return {'ahead', ours, last_ms} end
end

local clock
local function now()
  if not clock then
    local newest = call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
    clock = newest and math.max(ours, ms_of(newest[1])) or ours
  end
  return clock
end

-- A decision's record, its head opened: the rest is read where it is needed, for a list is long. At most 16 fields: one
-- more, and Lua doubles the table.
local function opened(entry, r)
  local _, flags, known, _, k, x_bytes, caller_bytes, gen, _, _, window = unpack_('<BBBBHHHI4I4I4I8', r)
  local ms, seq = parse(entry)
  local user_at = 67 + x_bytes + caller_bytes
  return {id = entry, record = r, deferred = flags % 2 == 1, sparse = flags % 4 >= 2 and 2 or 0, m = known, k = k,
          generation = gen, ms = ms, seq = seq, deadline = ms + window, x_bytes = x_bytes, caller_bytes = caller_bytes,
          user_at = user_at, shown_at = flags % 16 >= 8 and user_at + 16 or user_at, nonce = sub(r, 31, 38)}
end

-- The decision that the log has at this entry, or nil.
local function fetch(entry)
  local found = call('XRANGE', log, entry, entry)[1]
  return found and found[2][1] == 'd' and opened(entry, found[2][2]) or nil
end

local function x_and_caller_of(d) return sub(d.record, 67, d.user_at - 1) end
local function caller_of(d) return sub(d.record, 67 + d.x_bytes, d.user_at - 1) end
local function user_of(d) return sub(d.record, d.user_at, d.shown_at - 1) end

-- An arm's index as text, which is costly to make.
local texts = {}
local function text_of(arm)
  local text = texts[arm]
  if not text then text = tostring(arm); texts[arm] = text end
  return text
end

-- Whether it showed an arm: its bytes are sought, and count where a position begins.
local function shown(d, arm)
  local sought, from, last = pack('<I4', arm), d.shown_at, d.shown_at + (d.k - 1) * 20
  while from <= last do
    local hit = find(d.record, sought, from, true)
    if not hit or hit > last then return false end
    local beside = (hit - d.shown_at) % 20
    if beside == 0 then return true end
    from = hit + 20 - beside
  end
  return false
end

local function is_older_than_log(entry)
  local oldest = call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  if not oldest then return false end
  local ms, seq = parse(entry)
  local oldest_ms, oldest_seq = parse(oldest[1])
  return ms < oldest_ms or (ms == oldest_ms and seq < oldest_seq)
end

-- Whether a record is of this generation and these kinds, as long as it says, and of this caller.
local function fits(record, caller)
  if #record < 66 then return false end
  local _, flags, known, _, k, x_bytes, caller_bytes, gen = unpack_('<BBBBHHHI4', record)
  local shown_at = 67 + x_bytes + caller_bytes
  if flags % 16 >= 8 then shown_at = shown_at + 16 end
  return known == m and gen == generation and k > 0 and #record > shown_at + k * 20 and caller_bytes == #caller
         and (caller_bytes == 0 or sub(record, 67 + x_bytes, 66 + x_bytes + caller_bytes) == caller)
end

local NOTHING = '\0\0\0\0\0'  -- credited and clipped

local function decide(record, caller, user, window, sticky)
  if not fits(record, caller) then return 'C' .. NOTHING end
  if caller ~= '' then
    local before = call('GET', prefix .. ':i:' .. caller)
    local d = before and fetch(before)
    if d and d.generation == generation and caller_of(d) == caller then return '=' .. before .. ' ' .. d.record end
  end
  if sticky then
    local before = call('LINDEX', prefix .. ':u:' .. user, 0)
    local d = before and fetch(before)
    if d and d.generation == generation and now() < d.ms + sticky then return '~' .. before .. ' ' .. d.record end
  end
  local id = call('XADD', log, '*', 'd', record)
  if now_config[2] ~= ARGV[4] then call('HSET', config, 'learned', ARGV[4]); now_config[2] = ARGV[4] end
  if not window then return id end
  local expires = ms_of(id) + window + grace
  if caller ~= '' then call('SET', prefix .. ':i:' .. caller, id, 'PXAT', expires) end
  if user ~= '' then
    local key = prefix .. ':u:' .. user
    if call('LPUSH', key, id) == 1 then call('PEXPIREAT', key, expires)
    else call('LTRIM', key, 0, USER_MAX - 1); call('PEXPIREAT', key, expires, 'GT') end
  end
  return id
end

-- Fields of the state of a rewarded or activated decision, and whether there is one; another generation's is none.
local function state_of(d, ...)
  local key = prefix .. ':d:' .. d.id
  local fields = call('HMGET', key, 'g', ...)
  if fields[1] == ARGV[4] then return fields, true end
  if fields[1] then call('DEL', key) end
  return {}, false
end

-- Note fields of the state; it goes once the last moment of the grace period is over.
local function keep(d, is_there, ...)
  local key = prefix .. ':d:' .. d.id
  if is_there then call('HSET', key, ...)
  else call('HSET', key, 'g', ARGV[4], ...); call('PEXPIREAT', key, d.deadline + grace + 1) end
end

-- Keep a decision for as long as its events may be taken back: its record up to its first arm, in pieces that leave the
-- state in the short form that the store has for hashes, and where its caller's id stands.
local function hold(d, is_held)
  local key, caller_key = prefix .. ':d:' .. d.id, prefix .. ':r:' .. caller_of(d)
  local expires, size, pieces = d.deadline + refunds + grace + 1, d.shown_at + 3, {}
  if not is_held then
    for at = 1, size, SHORT do
      pieces[#pieces + 1] = 'x' .. (at - 1) / SHORT
      pieces[#pieces + 1] = sub(d.record, at, math.min(size, at + SHORT - 1))
    end
    call('HSET', key, unpack(pieces))
    if d.caller_bytes > 0 then call('SET', caller_key, d.id, 'PXAT', expires) end
  elseif d.caller_bytes > 0 then call('PEXPIREAT', caller_key, expires, 'GT') end
  call('PEXPIREAT', key, expires, 'GT')
end

-- A decision of this generation that was kept so, its record up to its first arm, or nil.
local function held(entry)
  local key, pieces, fields = prefix .. ':d:' .. entry, {}, {}
  local known = call('HMGET', key, 'g', 'x0')
  if known[1] ~= ARGV[4] or not known[2] then return nil end
  local d = opened(entry, known[2])
  for at = SHORT + 1, d.shown_at + 3, SHORT do fields[#fields + 1] = 'x' .. (at - 1) / SHORT end
  for i, piece in ipairs(call('HMGET', key, unpack(fields))) do pieces[i] = piece or '' end
  d.record = known[2] .. table.concat(pieces)
  return d
end

-- An arm's credits, packed, before any feedback; a kind added later starts at 0.
local untouched = {}
local function defaults_of(d)
  local packed = untouched[d.m]
  if not packed then
    local parts = {}
    for k = 1, m do parts[k] = pack('<i4', k <= d.m and kinds[k].default or 0) end
    packed = table.concat(parts)
    untouched[d.m] = packed
  end
  return packed
end

-- An arm's credits, packed, of the state's; it may be older than a kind.
local function credits_of(d, packed)
  if not packed then return defaults_of(d) end
  if #packed >= 4 * m then return sub(packed, 1, 4 * m) end
  return packed .. string.rep('\0', 4 * m - #packed)
end

-- What is credited to each arm of the record, packed as in the log; read a part at a time, for Lua's stack is bounded.
local function arms_and_credits(d, is_there)
  local parts = {}
  for first = 1, d.k, PART do
    local arms, fields = {}, {}
    for place = first, math.min(d.k, first + PART - 1) do
      arms[#arms + 1] = sub(d.record, d.shown_at + (place - 1) * 20, d.shown_at + (place - 1) * 20 + 3)
      if is_there then fields[#fields + 1] = 'c:' .. unpack_('<I4', arms[#arms]) end
    end
    local known = is_there and call('HMGET', prefix .. ':d:' .. d.id, unpack(fields)) or {}
    for i, arm in ipairs(arms) do
      parts[#parts + 1] = arm .. credits_of(d, known[i])
    end
  end
  return table.concat(parts)
end

local function activate(d, is_there)
  local head = pack('<BBBBHHHI4I4I8I4c8', 1, d.sparse, m, 0, d.k, d.x_bytes, d.caller_bytes, generation, schema_number,
                    d.ms, d.seq, d.nonce)
  local id = call('XADD', log, '*', 'a', head .. x_and_caller_of(d) .. arms_and_credits(d, is_there))
  keep(d, is_there, 'a', id)
end

-- What became of an item: a letter of the status, and which decision it was about, if there is one.
local function answer(letter, d)
  if not d then return letter .. NOTHING end
  return letter .. NOTHING .. d.id .. ' \8' .. d.nonce .. caller_of(d)
end

-- A user's event of the caller's own naming: which of the user's decisions it was credited to, a field an arm. Only the
-- event, the last part, may be of any length or have a colon.
local function event_key(user, kind, event)
  return prefix .. ':e:' .. user .. ':' .. ARGV[4] .. ':' .. kind .. ':' .. event
end

-- Keep that an event was credited to decisions, for their window and the grace from now on, and where it may be taken
-- back for that time too; an arm's first stay.
local function remember(user, kind, event, credited, window)
  local key, expires = event_key(user, kind, event), now() + window + grace
  if kinds[kind + 1].aggregation == 'sum' then expires = expires + refunds end
  for arm, decisions in pairs(credited) do call('HSETNX', key, arm, decisions) end
  if call('PEXPIREAT', key, expires, 'NX') == 0 then call('PEXPIREAT', key, expires, 'GT') end
end

-- What names a decision in such a record, when the log no longer has it.
local function pack_name(d)
  local caller = caller_of(d)
  return pack('<I8I4c8H', d.ms, d.seq, d.nonce, #caller) .. caller
end

-- The decisions that a user's event was credited to, each with its arm and as duplicates are answered, newest first;
-- with an arm named, those credited for that arm.
local function credited_before(user, kind, event, arm)
  local key, found = event_key(user, kind, event), {}
  local fields = arm < 0 and call('HGETALL', key) or {arm, call('HGET', key, arm) or ''}
  for i = 1, #fields, 2 do
    local packed, from = fields[i + 1], 1
    while from <= #packed do
      local ms, seq, size = unpack_('<I8I4xxxxxxxxH', packed, from)
      local id, nonce = string.format('%d-%d', ms, seq), sub(packed, from + 12, from + 19)
      found[#found + 1] = {ms = ms, seq = seq, arm = tonumber(fields[i]), id = id, nonce = nonce,
                           said = 'D' .. NOTHING .. id .. ' \8' .. nonce .. sub(packed, from + 22, from + 21 + size)}
      from = from + 22 + size
    end
  end
  if #fields > 2 then  -- a field has its own in that order
    table.sort(found, function(a, b)
      if a.ms ~= b.ms then return a.ms > b.ms end
      if a.seq ~= b.seq then return a.seq > b.seq end
      return a.arm < b.arm
    end)
  end
  return found
end

-- How much may be taken back of an event, as its amount was kept, where `asked` is; else nil and why not.
local function taken(kept, asked)
  if not kept then return nil, 'N' end
  if #kept < 4 then return nil, kept == 'r' and 'X' or 'O' end
  local left = unpack_('<i4', kept)
  if asked == 0 then asked = left end
  if asked <= 0 or asked > left then return nil, 'X' end
  return asked, pack('<i4', left - asked)
end

-- Judge feedback on one decision and credit it, or take it back of the event `of`: the answer, and the arm where it was
-- credited. What its events come to is kept where it is not what is credited, which lies within the range.
local function credit(d, kind, value, event, arm, of)
  if d.generation ~= generation then return answer('L', d) end
  if arm < 0 then
    if d.k > 1 then return answer('M', d) end
    arm = unpack_('<I4', d.record, d.shown_at)
  elseif not of and not shown(d, arm) then return answer('S', d) end
  local name, rule, own = text_of(arm), kinds[kind + 1], event ~= ''
  local adds, late = rule.aggregation == 'sum', of and d.deadline + refunds or d.deadline
  local credits_field, seen_field = 'c:' .. name, 'k:' .. name .. ':' .. text_of(kind)
  local known_field = own and 'e' .. sub(seen_field, 2) .. ':' .. event or 'g'
  local more_field = of and 'e' .. sub(seen_field, 2) .. ':' .. of or 'x0'
  local fields, is_there = state_of(d, 'n', credits_field, seen_field, known_field, d.deferred and 'a' or 'g', more_field)
  local count, seen, amount = fields[2], fields[4], adds and pack('<i4', value) or '1'
  if own and fields[5] then return answer('D', d) end
  if rule.aggregation == 'first' and seen then return answer('D', d) end
  if now() > late then return answer('L', d) end
  count = count and tonumber(count) or 0
  if count >= (of and 2 or 1) * EVENTS_MAX then return answer('E', d) end
  local left
  if of then
    value, left = taken(fields[7], value)
    if not value then return answer(left, d) end
    value, amount = -value, 'r'
  end
  local before = credits_of(d, fields[3])
  local old = unpack_('<i4', before, 4 * kind + 1)
  local total, clipped = value, 0
  if seen and adds then total = (#seen == 8 and unpack_('<i8', seen) or old) + value end
  local within = math.max(rule.low, math.min(rule.high, total))
  if within ~= total then
    if rule.clip == 0 and not of then return answer('R', d) end
    clipped = 1
  end
  local pending = 0
  if d.deferred and not fields[6] then
    if explicit == 1 or of then pending = 1 else activate(d, is_there); is_there = true end
  end
  local after = sub(before, 1, 4 * kind) .. pack('<i4', within) .. sub(before, 4 * kind + 5)
  local said = of and event .. '\0' .. of or event
  local head = pack('<BBBBHHHI4I4I8I4c8I4i4', 1, pending + d.sparse + 8 * clipped, m, kind, d.x_bytes, d.caller_bytes,
                    #said, generation, schema_number, d.ms, d.seq, d.nonce, arm, value)
  local id = call('XADD', log, '*', 'f', head .. x_and_caller_of(d) .. said .. before .. after)
  seen = adds and within ~= total and pack('<i8', total) or '1'
  local place = 't' .. count + 1  -- where its entry is, for whoever asks what became of the decision
  if own then keep(d, is_there, 'n', count + 1, place, id, credits_field, after, seen_field, seen, known_field, amount)
  else keep(d, is_there, 'n', count + 1, place, id, credits_field, after, seen_field, seen) end
  if of then keep(d, true, more_field, left) elseif adds and refunds > 0 then hold(d, fields[7]) end
  return pack('<c1i4B', 'A', within - old, clipped) .. d.id .. ' \8' .. d.nonce .. caller_of(d), arm
end

-- The decision that a server's id names, or the answer that there is none; for a refund also one that is only kept.
local function by_entry(entry, nonce, of)
  local d = fetch(entry) or of and held(entry)
  if d then
    if d.nonce == nonce and d.caller_bytes == 0 then return d end
  elseif is_older_than_log(entry) then
    return nil, 'L' .. NOTHING .. entry .. ' ' .. string.char(#nonce) .. nonce
  end
  return nil, answer('U')
end

-- The decision that a caller's id names, or the answer that there is none; for a refund the last one that was rewarded.
local function by_caller(caller, of)
  local entry = call('GET', prefix .. ':i:' .. caller)
  local d = entry and fetch(entry)
  if of and not (d and state_of(d, 'n')[2]) then
    local kept = call('GET', prefix .. ':r:' .. caller)
    local k = kept and (fetch(kept) or held(kept))
    if k and k.generation == generation then d = k end
  end
  if d and caller_of(d) == caller then return d end
  return nil, answer('U')
end

-- Whether a user's decision may be given feedback by user: of this generation, within its window, shown, and where an
-- arm is named, with that arm.
local function takes(d, arm)
  if not d or d.generation ~= generation or now() > d.deadline or (arm >= 0 and not shown(d, arm)) then return false end
  return not d.deferred or state_of(d, 'a')[2]
end

-- The decisions that feedback by user goes to: all that may be given it, newest first, or the first found from one end,
-- where the list is read a piece at a time.
local function targets(user, arm)
  local key, found, from = prefix .. ':u:' .. user, {}, 0
  local size = attribution == 'all' and USER_MAX or PIECE
  repeat
    local entries
    if attribution == 'first' then entries = call('LRANGE', key, -from - size, -from - 1)
    else entries = call('LRANGE', key, from, from + size - 1) end
    for i = 1, #entries do
      local d = fetch(entries[attribution == 'first' and #entries + 1 - i or i])
      if takes(d, arm) then
        found[#found + 1] = d
        if attribution ~= 'all' then return found end
      end
    end
    from = from + size
  until #entries < size
  return found
end

-- An event that a decision of the user's has been credited with is a repeat, even if a newer one came since, or the
-- window passed, or the log no longer has that decision.
local function by_user(user, kind, value, event, own, arm)
  local answers = {}
  for _, each in ipairs(own and credited_before(user, kind, event, arm) or {}) do answers[#answers + 1] = each.said end
  if #answers > 0 then return attribution == 'all' and answers or answers[1] end
  local found, credited, window = targets(user, arm), {}, 0
  if #found == 0 then return answer('U') end
  for _, d in ipairs(found) do
    local said, to = credit(d, kind, value, event, arm)
    answers[#answers + 1] = said
    if to then credited[to], window = (credited[to] or '') .. pack_name(d), math.max(window, d.deadline - d.ms) end
  end
  if own and window > 0 then remember(user, kind, event, credited, window) end
  return attribution == 'all' and answers or answers[1]
end

-- Take back of an event from each of a user's decisions that was credited with it, whatever came since.
local function back_by_user(user, kind, value, event, arm, of)
  local before, answers = credited_before(user, kind, of, arm), {}
  if #before > USER_MAX then return answer('M') end
  for i, each in ipairs(before) do
    local d = fetch(each.id) or held(each.id)
    answers[i] = d and d.nonce == each.nonce and credit(d, kind, value, event, each.arm, of) or answer('N')
  end
  if #answers == 0 then return answer('N') end
  return (attribution == 'all' or #answers > 1) and answers or answers[1]
end

-- Feedback on a decision that an id names; an event of the caller's own naming is then known by that one's user too.
local function by_id(d, kind, value, event, own, arm, of)
  local said, to = credit(d, kind, value, event, arm, of)
  if to and own and not of and d.shown_at > d.user_at then
    remember(user_of(d), kind, event, {[to] = pack_name(d)}, d.deadline - d.ms)
  end
  return said
end

local function feedback(tag, named, packed, event, of)
  local kind, value, own, arm = unpack_('<Hi8Bi4', packed)
  if tag == 'u' then return by_user(named, kind, value, event, own == 1, arm) end
  if tag == 'U' then return back_by_user(named, kind, value, event, arm, of) end
  local d, refusal
  if tag == 'f' or tag == 'F' then d, refusal = by_entry(named, sub(packed, 16), of)
  else d, refusal = by_caller(named, of) end
  return d and by_id(d, kind, value, event, own == 1, arm, of) or refusal
end

local function activation(d)
  if d.generation ~= generation then return answer('L', d) end
  local fields, is_there = state_of(d, 'a')
  if not d.deferred or fields[2] then return answer('D', d) end
  if now() > d.deadline then return answer('L', d) end
  activate(d, is_there)
  return answer('V', d)
end

-- What wrote nothing is counted here, for the log does not tell of it.
local wrote_nothing = {}
local function note(said)
  local letter = sub(said, 1, 1)
  if letter ~= 'A' and letter ~= 'V' then wrote_nothing[letter] = (wrote_nothing[letter] or 0) + 1 end
end

local function count_in(key, field, n, expires)
  if call('HINCRBY', key, field, n) == n then call('PEXPIREAT', key, expires) end
end

local tags, reply, a = ARGV[7], {'ok'}, ITEMS
for i = 1, #tags do
  local tag, said = sub(tags, i, i), nil
  if tag == 'd' then said = decide(ARGV[a], ''); a = a + 1
  elseif tag == 'D' then said = decide(ARGV[a], ARGV[a + 1], ARGV[a + 2], tonumber(ARGV[a + 3])); a = a + 4
  elseif tag == 'S' then
    said = decide(ARGV[a], ARGV[a + 1], ARGV[a + 2], tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4])); a = a + 5
  elseif tag == 'a' or tag == 'A' then
    local d, refusal
    if tag == 'a' then d, refusal = by_entry(ARGV[a], ARGV[a + 1]); a = a + 2
    else d, refusal = by_caller(ARGV[a]); a = a + 1 end
    said = d and activation(d) or refusal
  elseif tag == 'F' or tag == 'C' or tag == 'U' then
    said = feedback(tag, ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]); a = a + 4
  else said = feedback(tag, ARGV[a], ARGV[a + 1], ARGV[a + 2]); a = a + 3 end
  reply[i + 1] = said
  if type(said) == 'table' then for _, each in ipairs(said) do note(each) end
  elseif tag ~= 'd' and tag ~= 'D' and tag ~= 'S' then note(said) end
end
for letter, n in pairs(wrote_nothing) do
  local minute, hour = floor(ours / MINUTE), floor(ours / 60 / MINUTE)
  local day = floor(hour / 24)
  count_in(prefix .. ':m:' .. floor(minute / 60), letter .. minute % 60, n, (hour + 25) * 60 * MINUTE)
  count_in(prefix .. ':h:' .. day, letter .. hour % 24, n, (day + 91) * 1440 * MINUTE)
end
call('SET', producer, cmsgpack.pack({sequence, reply}), 'PX', PRODUCER_MS)
return reply
