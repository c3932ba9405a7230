// Shows push messages, also when no page of the shop is open. The browser decrypts them; what comes here is the shop's JSON.
"use strict";

const PAGE = "/api/v1/notifications/push";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("push", (event) => event.waitUntil(show(event.data)));
self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data?.url));
});

function read(data) {
  try {
    const { id, title, body, url } = data.json();
    return { id: String(id ?? ""), title: String(title || "A message of the shop"), body: String(body ?? ""), url };
  } catch {
    return { id: "", title: "A message of the shop", body: "", url: null }; // a browser must show something for each push
  }
}

async function show(data) {
  const message = read(data);
  // A second copy of a message takes the place of the first.
  const options = { body: message.body, tag: message.id, data: { url: message.url } };
  await self.registration.showNotification(message.title, options);
  for (const page of await self.clients.matchAll({ type: "window", includeUncontrolled: true })) page.postMessage(message);
}

function target(url) {
  try {
    const found = new URL(url || PAGE, self.location.origin);
    if (found.protocol === "https:" || found.protocol === "http:") return found.href;
  } catch {
    // no address: the page instead
  }
  return new URL(PAGE, self.location.origin).href;
}

async function open(url) {
  const wanted = target(url);
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const page = pages.find((each) => each.url === wanted);
  return page ? page.focus() : self.clients.openWindow(wanted);
}
