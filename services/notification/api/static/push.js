// The page on which a person allows push messages. The shop opens it with the access token behind a #, which no server sees:
// /api/v1/notifications/push#token=…
"use strict";

const API = "/api/v1/notifications";
const KEPT = "push-subscription"; // in localStorage: the id of this browser's subscription
const element = (id) => document.getElementById(id);
let registration;

function tokenFromAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
  if (location.hash) history.replaceState(null, "", location.pathname); // so that it stays in no history
  return token;
}

async function ask(method, path, body) {
  const headers = { Authorization: `Bearer ${element("token").value.trim()}` };
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(API + path, { method, headers, body: body && JSON.stringify(body) });
  if (response.ok) return response.status === 204 ? null : response.json();
  const problem = await response.json().catch(() => ({}));
  const field = problem.errors?.[0]?.detail;
  throw new Error(response.status === 401 ? "Log in again: the access token does not count (any more)." : field ?? problem.detail ?? `The shop answers ${response.status}.`);
}

function bytesOf(base64url) {
  const text = atob(base64url.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

function isMadeWith(subscription, key) {
  const made = new Uint8Array(subscription.options?.applicationServerKey ?? []);
  return made.length === key.length && made.every((byte, index) => byte === key[index]);
}

async function allow() {
  const answer = await Notification.requestPermission();
  if (answer !== "granted") throw new Error("The browser does not allow messages. You can change that in its settings for this site.");
  const { public_key } = await ask("GET", "/push/key");
  const key = bytesOf(public_key);
  let subscription = await registration.pushManager.getSubscription();
  if (subscription && !isMadeWith(subscription, key)) {
    await subscription.unsubscribe(); // made with an older key of the shop
    subscription = null;
  }
  subscription ??= await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
  const saved = await ask("POST", "/push-subscriptions", { ...subscription.toJSON(), vapid_key: public_key });
  localStorage.setItem(KEPT, saved.subscription_id);
}

async function test() {
  await ask("POST", `/push-subscriptions/${localStorage.getItem(KEPT)}/test`);
}

async function stop() {
  try {
    await ask("DELETE", `/push-subscriptions/${localStorage.getItem(KEPT)}`);
  } finally {
    // Whatever the shop says: what it sends from now on is refused by the push service.
    await (await registration.pushManager.getSubscription())?.unsubscribe();
    localStorage.removeItem(KEPT);
  }
}

function show(message) {
  const item = document.createElement("li");
  const title = document.createElement("strong");
  title.textContent = message.title;
  item.append(title, message.body);
  element("messages").prepend(item);
  element("arrived").hidden = false;
}

async function refresh() {
  const isOn = Boolean(await registration.pushManager.getSubscription()) && Boolean(localStorage.getItem(KEPT));
  element("login").hidden = false;
  element("allow").hidden = isOn;
  element("test").hidden = element("stop").hidden = !isOn;
  element("state").textContent = isOn
    ? "Messages about your orders come to this device, also when this page is closed."
    : "Nothing is sent to this device yet.";
}

function onClick(id, action) {
  const button = element(id);
  button.addEventListener("click", async () => {
    button.disabled = true;
    element("problem").hidden = true;
    try {
      await action();
    } catch (error) {
      element("problem").textContent = error.message;
      element("problem").hidden = false;
    }
    await refresh();
    button.disabled = false;
  });
}

async function begin() {
  element("token").value = tokenFromAddress();
  if (!("serviceWorker" in navigator && "PushManager" in window && "Notification" in window)) {
    element("state").textContent = "This browser takes no messages. On an iPhone, add the shop to the home screen first.";
    return;
  }
  navigator.serviceWorker.addEventListener("message", (event) => show(event.data));
  await navigator.serviceWorker.register(`${API}/push/sw.js`, { scope: `${API}/push` });
  registration = await navigator.serviceWorker.getRegistration(`${API}/push`);
  onClick("allow", allow);
  onClick("test", test);
  onClick("stop", stop);
  await refresh();
}

begin().catch((error) => {
  element("state").textContent = `This does not work: ${error.message}`;
});
