-- Writes the state, what services are at, and decisions: all of it, or nothing.
-- KEYS: state, about, services, log. ARGV: as `commit.rs` lays them out.
local state, about, services, log = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local channel, run, takes, patience, keep, oldest = unpack(ARGV, 1, 6)
local name, version, revision, expected, blob, count = unpack(ARGV, 7, 12)
local at = 13

-- Decimal numbers as text: a double would round what is above 2^53.
local function above(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end
local function later(a, b)
  local ar, ap = string.match(a, '(%d+)-(%d+)')
  local br, bp = string.match(b, '(%d+)-(%d+)')
  return above(ar, br) or (ar == br and above(ap, bp))
end

-- Everything is looked at before anything is written: a key of another type ends it here.
local kept = redis.call('HMGET', about, 'revision', 'run', 'seen_ms')
local whole = redis.call('STRLEN', state) > 0
whole = redis.call('HLEN', services) > 0 and whole
local stored = kept[1] or string.match(redis.call('GETRANGE', state, 0, 255), ' revision=(%d+) ')
local last = '0-0'
local info = redis.pcall('XINFO', 'STREAM', log)
if info.err then
  if not string.find(info.err, 'no such key') then return info end
else
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = info[i + 1] end
  end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if stored and above(stored, revision) then
  return {'ahead', last, stored}
end
local seen = tonumber(kept[3] or '0') or 0
if kept[2] and kept[2] ~= run and takes == '0' and now - seen < tonumber(patience) then
  return {'shared', last, stored or '0'}
end
if (blob == '' and not whole) or later(expected, last) then
  return {'missing', last, stored or '0'}
end

local fields = {}
for i = 1, count * 2 do
  fields[i] = ARGV[at]
  at = at + 1
end
while ARGV[at] do
  local id, record = ARGV[at], ARGV[at + 12]
  local added = redis.pcall('XADD', log, id, unpack(ARGV, at + 1, at + 14))
  if not added.err then
    redis.call('PUBLISH', channel, record)
    last = id
  elseif not string.find(added.err, 'equal or smaller') then
    return added
  end
  at = at + 15
end
if blob ~= '' then
  redis.call('SET', state, blob)
  redis.call('DEL', services)
  if #fields > 0 then redis.call('HSET', services, unpack(fields)) end
end
redis.call('HSET', about, 'name', name, 'version', version, 'revision', revision,
  'run', run, 'seen_ms', string.format('%.0f', now))
redis.call('XTRIM', log, 'MAXLEN', keep)
for _, entry in ipairs(redis.call('XRANGE', log, '-', '+', 'COUNT', 16)) do
  if above(oldest, entry[2][2]) then redis.call('XDEL', log, entry[1]) end
end
return {'ok', last, revision}
