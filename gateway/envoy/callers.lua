-- Who is asking, whether their session still stands, and whether they ask too often.
--
-- The tables below belong to one worker thread of one gateway and live as long as it does. Twice a second, one request carries
-- what was counted to the edge app, which adds it to Redis and answers with the sum of all gateways and with the sessions that
-- were ended. While that does not answer, what is known here goes on to hold. Logins are asked about one by one.

local SYNC_MS, PAUSE_MS = 500, 1000
local SYNC_TIMEOUT_MS, LOGIN_TIMEOUT_MS = 400, 2000

local used_until = {}             -- key -> when (ms) nothing is used up any more: GCRA's theoretical arrival time
local counted = {}                -- key -> requests since the last exchange with the edge
local refused = {}                -- name of a limit -> requests that it refused since then
local ended, version = {}, "-"    -- session id -> true, and which state of the list this is
local next_sync = 0
local uploads = {}                -- client address -> id of a body that is still coming -> when it must have come
local last_upload = 0

-- An IPv4 address; of IPv6 the /64, since one household has all the addresses in it.
local function household(address)
  local ip = address:match("^%[(.*)%]:%d+$")
  if ip == nil then return address:match("^(.*):%d+$") or address end
  local v4 = ip:match("^::ffff:(%d+%.%d+%.%d+%.%d+)$")
  if v4 then return v4 end
  local left, right = ip:match("^(.-)::(.*)$")
  local groups = {}
  for group in (left or ip):gmatch("%x+") do groups[#groups + 1] = group end
  if left then
    local tail = {}
    for group in right:gmatch("%x+") do tail[#tail + 1] = group end
    for _ = 1, 8 - #groups - #tail do groups[#groups + 1] = "0" end
    for _, group in ipairs(tail) do groups[#groups + 1] = group end
  end
  return table.concat(groups, ":", 1, 4) .. "::"
end

local function forget(now)
  for key, at in pairs(used_until) do
    if at <= now then used_until[key] = nil end
  end
  for address, open in pairs(uploads) do
    for id, deadline in pairs(open) do
      if deadline <= now then open[id] = nil end
    end
    if next(open) == nil then uploads[address] = nil end
  end
end

-- Exchange with the edge. Returns the keys that it knows the sum of, or nil if it did not answer.
local function sync(handle, now, timeout_ms)
  next_sync = now + SYNC_MS
  forget(now)
  local lines = {"ended " .. version}
  for key, count in pairs(counted) do lines[#lines + 1] = key .. " " .. count end
  for name, count in pairs(refused) do lines[#lines + 1] = "refused:" .. name .. " " .. count end
  counted, refused = {}, {}
  local request = {[":method"] = "POST", [":path"] = "/limits", [":authority"] = "edge"}
  local headers, body = handle:httpCall(
    CLUSTER, request, table.concat(lines, "\n"), {timeout_ms = timeout_ms, send_xff = false, trace_sampled = false})
  now = handle:timestamp()
  if headers[":status"] ~= "200" then
    handle:logErr("limits_not_shared: the edge app answered " .. headers[":status"] .. "; the last known state holds")
    next_sync = now + PAUSE_MS
    return nil
  end
  local shared = {}
  for name, value in (body or ""):gmatch("(%S+) ([^\n]*)") do
    if name == "ended" then
      local new, ids = value:match("^(%S+)(.*)$")
      if new ~= version then
        version, ended = new, {}
        for id in ids:gmatch("%S+") do ended[id] = true end
      end
    else
      shared[name] = true
      used_until[name] = math.max(used_until[name] or 0, now + tonumber(value))
    end
  end
  return shared
end

local function over_ms(key, policy, now)
  return math.max((used_until[key] or 0) - now, 0) - policy.window_ms
end

-- Headers of the answer, which routes.py puts there: RateLimit (draft-ietf-httpapi-ratelimit-headers-10), and over TLS HSTS.
local function tell(handle, name, remaining, reset)
  local answer = handle:streamInfo():dynamicMetadata()
  answer:set("limits", "left", string.format('"%s";r=%d;t=%d', name, remaining, reset))
  if handle:headers():get("x-forwarded-proto") == "https" then
    answer:set("limits", "hsts", "max-age=31536000; includeSubDomains")
  end
end

local function refuse(handle, status, why, wait)
  handle:respond({[":status"] = status, ["retry-after"] = wait}, why)
end

local function refuse_as_too_many(handle, name, over)
  local wait = math.max(math.ceil(over / 1000), 1)
  tell(handle, name, 0, wait)
  refused[name] = (refused[name] or 0) + 1
  refuse(handle, "429", name, tostring(wait))
end

-- Counts one request, unless that is one too many. Returns how far (ms) it is over its limit, if it is.
local function count(key, policy, now)
  local cost = policy.window_ms / policy.quota
  local over = over_ms(key, policy, now) + cost
  if over > 1 then return over end
  used_until[key] = math.max(used_until[key] or 0, now) + cost
  counted[key] = (counted[key] or 0) + 1
end

local function tell_what_is_left(handle, name, key, now)
  local policy = POLICIES[name]
  local left = -over_ms(key, policy, now)
  tell(handle, name, math.floor(left * policy.quota / policy.window_ms + 0.001), math.ceil((policy.window_ms - left) / 1000))
end

-- A client may have so many bodies under way at once. One that is refused or given up keeps its place until its deadline.
local function begin_upload(address, now)
  local open, under_way = uploads[address] or {}, 0
  for id, deadline in pairs(open) do
    if deadline <= now then open[id] = nil else under_way = under_way + 1 end
  end
  if under_way >= UPLOADS then return nil end
  last_upload = last_upload + 1
  open[last_upload], uploads[address] = now + UPLOAD_MS, open
  return last_upload
end

local function end_upload(address, id)
  local open = uploads[address]
  if open then open[id] = nil end
end

local function is_ended(claims)
  return claims["sid"] ~= nil and ended[claims["sid"]]
end

-- What Envoy's objects say is read before the waits: they do not outlive them.
local function decide(handle, limit, signed_in)
  local now = handle:timestamp()
  local token = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn") or {}
  local claims, failed = token["jwt"], token["failed"]
  if claims and is_ended(claims) then claims = nil end
  local address = household(handle:streamInfo():downstreamRemoteAddress())
  local name = limit ~= "caller" and limit or claims and "user" or "anonymous"
  local key = name .. ":" .. (name == "user" and claims["sub"] or address)

  local over = count(key, POLICIES[name], now)
  if over then return refuse_as_too_many(handle, name, over) end
  tell_what_is_left(handle, name, key, now)
  if signed_in and not claims then
    if failed and failed["message"] == "Jwks remote fetch is failed" then
      return refuse(handle, "503", "identity's keys are not known", "1")
    end
    return refuse(handle, "401", "no valid token")
  end

  local upload = begin_upload(address, now)
  if upload == nil then return refuse(handle, "429", "uploads", "1") end
  handle:body()  -- waits until it is whole
  end_upload(address, upload)

  now = handle:timestamp()
  if limit ~= "auth" and now < next_sync then return end
  -- This request carries what was counted. Where passwords are guessed each one does: what all gateways have seen counts at once.
  local shared = sync(handle, now, limit == "auth" and LOGIN_TIMEOUT_MS or SYNC_TIMEOUT_MS)
  if limit == "auth" and not (shared and shared[key]) then
    return refuse(handle, "503", "the login's limit cannot be checked", "1")
  end
  now = handle:timestamp()
  over = over_ms(key, POLICIES[name], now)
  if over > 1 then return refuse_as_too_many(handle, name, over) end
  tell_what_is_left(handle, name, key, now)
  if signed_in and is_ended(claims) then return refuse(handle, "401", "the session was ended") end
end

function envoy_on_request(handle)
  local route = handle:filterContext()
  local limit, signed_in = route:get("limit"), route:get("signed_in")
  if limit == nil then return end  -- a page of the gateway's own, or no route at all
  -- After an error in here Envoy would let the request pass.
  local ok, problem = pcall(decide, handle, limit, signed_in)
  if not ok then
    handle:logErr("callers_filter_failed: " .. tostring(problem))
    refuse(handle, "500", "callers filter failed")
  end
end
