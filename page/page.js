// The page is whole without this script. It keeps it up to date, and sorts its tables.
"use strict";

const live = document.getElementById("live");
const title = document.title;
const sorted = new Map(); // by the id of a table's body: the column and the direction
const pending = new Map(); // sections that wait because somebody selects text in them

// Sorting: a head gets a button; numbers are sorted from the largest.
function compare(a, b, column, numbers) {
  const x = a.cells[column], y = b.cells[column];
  if (!x || !y) return 0;
  if (numbers) return Number(x.dataset.v ?? "NaN") - Number(y.dataset.v ?? "NaN");
  return (x.dataset.v ?? x.textContent).localeCompare(y.dataset.v ?? y.textContent, undefined, {numeric: true});
}

function sort(body) {
  const by = sorted.get(body.id);
  if (!by) return;
  const rows = [...body.rows].sort((a, b) => by.sign * compare(a, b, by.column, by.numbers));
  body.append(...rows);
}

function choose(head, column, body) {
  const numbers = head.classList.contains("num"), first = numbers ? -1 : 1;
  const by = sorted.get(body.id);
  const sign = by && by.column === column ? -by.sign : first;
  sorted.set(body.id, {column, numbers, sign, by: head.dataset.by});
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
  sort(body);
  if (isSortedByKeyway(body)) fetchSorted(body);
}

// Of a list that is cut, keyway has the rows that come first by another column.
const isSortedByKeyway = body => body.dataset.from && sorted.has(body.id) &&
  document.getElementById(body.id.replace("-rows", "-more")).textContent !== "";

async function fetchSorted(body) {
  const by = sorted.get(body.id);
  const url = new URL(body.dataset.from, location.href);
  url.searchParams.set("by", by.by);
  if (by.sign !== (by.numbers ? -1 : 1)) url.searchParams.set("reversed", "true");
  try {
    const answer = await fetch(url);
    if (!answer.ok) return;
    const sections = await answer.json();
    if (sorted.get(body.id) !== by) return; // somebody has chosen another column meanwhile
    for (const [id, html] of Object.entries(sections)) {
      if (!isSelected(document.getElementById(id))) show(id, html);
    }
  } catch { /* the page says already that keyway does not answer */ }
}

for (const table of document.querySelectorAll(".sheet table")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (head.classList.contains("acts")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => choose(head, column, body));
    head.replaceChildren(button);
  });
}

// Updates: an event has the sections that have changed, as the server has made them.
function isSelected(element) {
  const selection = document.getSelection();
  return selection && !selection.isCollapsed && selection.containsNode(element, true);
}

function show(id, html) {
  const element = document.getElementById(id);
  if (!element) return;
  const open = new Map([...element.querySelectorAll("details[id]")].map(d => [d.id, d.open]));
  const focused = element.contains(document.activeElement) ? document.activeElement.closest("[id]") : null;
  const order = element.contains(document.activeElement) ? document.activeElement.dataset.order : undefined;
  element.innerHTML = html;
  for (const [of, isOpen] of open) {
    const details = document.getElementById(of);
    if (details) details.open = isOpen;
  }
  if (order) findOrder(order, element)?.focus();
  else if (focused && focused !== element) document.getElementById(focused.id)?.querySelector("summary")?.focus();
  sort(element);
}

function showPending() {
  for (const [id, html] of pending) {
    const element = document.getElementById(id);
    if (element && isSelected(element)) continue;
    pending.delete(id);
    if (element && isSortedByKeyway(element)) fetchSorted(element);
    else show(id, html);
    if (id === "picture") find();
  }
  const all = Number(document.querySelector("#problems [data-all]")?.dataset.all ?? 0);
  document.title = (all > 0 ? `(${all}) ` : "") + title;
}

// A keyway that hangs, and a cable that is cut, end no connection. Events come each second, so silence tells.
const silentAfter = 5000, reconnectAfter = 15000; // milliseconds
let source = null, asOf = live.dataset.at, heard = 0; // heard is when the last event came, or the page began to listen

function say(name, text) {
  live.className = "live " + name;
  if (live.textContent !== text) live.textContent = text; // a screen reader reads each change
}

const sayLost = () => say("off", `No answer since ${asOf}; trying again`);

function listen() {
  heard = performance.now();
  source = new EventSource(document.body.dataset.live);
  source.onmessage = event => {
    heard = performance.now();
    asOf = event.lastEventId || asOf;
    say("on", "Live");
    for (const [id, html] of Object.entries(JSON.parse(event.data))) pending.set(id, html);
    showPending();
  };
  source.onerror = () => {
    sayLost();
    if (source.readyState === EventSource.CLOSED) setTimeout(again, 5000); // refused: it would not try again
  };
}

function again() {
  source?.close();
  if (!document.hidden) listen();
}

setInterval(() => {
  if (document.hidden) return;
  const silence = performance.now() - heard;
  if (silence > silentAfter) sayLost();
  if (silence > reconnectAfter) again();
}, 1000);

document.addEventListener("selectionchange", showPending);
document.addEventListener("visibilitychange", again); // nobody looks at a hidden page
addEventListener("pagehide", () => source?.close());
addEventListener("pageshow", event => { if (event.persisted) again(); });

// The box asks for the same page as without this script, and takes the answer out of it.
const form = document.querySelector("form.ask");

async function find() {
  if (!form || !new URLSearchParams(location.search).has("key")) return;
  try {
    const answer = await fetch(location.href, {headers: {Accept: "text/html"}});
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["where", "picture"]) {
      const found = page.getElementById(id);
      if (found) show(id, found.innerHTML);
    }
  } catch { /* the page says already that keyway does not answer */ }
}

form?.addEventListener("submit", event => {
  event.preventDefault();
  history.replaceState(null, "", "?" + new URLSearchParams(new FormData(form)));
  find();
});

// Orders: a button asks before it sends the request. The token, or the user with the password, is in these variables
// only, and goes into a header, which no page of another site can send.
const dialog = document.getElementById("order");
let token = "", user = "", order = null;

const findOrder = (path, within) => [...within.querySelectorAll("[data-order]")].find(b => b.dataset.order === path);
const part = name => document.getElementById("order-" + name);

function setShown(name, isShown) { part(name).closest(".field").hidden = !isShown; }

const proof = () => document.querySelector("#orders [data-proof]")?.dataset.proof ?? "none";

function ask(button) {
  order = {...button.dataset};
  part("h").textContent = button.getAttribute("aria-label") ?? button.textContent;
  part("does").textContent = order.does;
  const options = order.options ? order.options.split(" ") : [];
  const field = part(options.length > 0 ? "choice" : "value");
  part("choice").replaceChildren(...options.map(o => new Option(o, o, false, o === order.value)));
  part("value").value = order.value ?? "";
  setShown("choice", order.field && options.length > 0);
  setShown("value", order.field && options.length === 0);
  field.closest(".field").querySelector("label").textContent = order.label ?? "";
  order.chosen = () => order.field ? field.value.trim() : "";
  field.oninput = () => { part("command").textContent = order.command.replaceAll("{}", order.chosen()); };
  field.oninput();
  askForToken();
  const isPossible = proof() !== "none" || order.open;
  tell(isPossible ? "" : "This needs a token: write admin: {listen: ADDRESS, token_file: FILE} into the configuration.",
    !isPossible);
  finish(isPossible, "Cancel");
  dialog.showModal();
}

// forget forgets the token or the user. What was typed wrong must be typed again.
function forget() {
  token = user = "";
  askForToken();
}

function askForToken() {
  const kind = proof();
  part("token").value = "";
  part("user").value = user;
  const isKnown = kind !== "none" && token;
  setShown("user", (kind === "user" || kind === "either") && !token);
  setShown("token", kind !== "none" && !token);
  setShown("forget", isKnown);
  part("known").textContent = user ? "user and password" : "the token";
  const label = name => part(name).closest(".field").querySelector("label");
  label("user").textContent = kind === "either" ? "User (empty: a token)" : "User";
  label("token").textContent = { user: "Password", either: "Password or token" }[kind] ?? "Token";
}

// credentials returns the header that proves who sends an order. The name and the password are in UTF-8.
function credentials() {
  if (!token) return {};
  if (!user) return {Authorization: "Bearer " + token};
  const bytes = new TextEncoder().encode(user + ":" + token);
  return {Authorization: "Basic " + btoa(String.fromCharCode(...bytes))};
}

function tell(text, isBad) {
  part("result").textContent = text;
  part("result").className = isBad ? "bad" : "";
}

function finish(mayGo, close) {
  part("go").hidden = !mayGo;
  part("go").disabled = false;
  part("close").textContent = close;
}

async function send() {
  if (proof() !== "none" && !token) {
    user = part("user").value.trim();
    token = user ? part("token").value : part("token").value.trim();
  }
  const asked = user ? "user with this password" : "token";
  askForToken();
  const url = new URL(order.order, location.href);
  if (order.field) url.searchParams.set(order.field, order.chosen() + (order.unit ?? ""));
  if (document.body.dataset.pool) url.searchParams.set("pool", document.body.dataset.pool);
  part("go").disabled = true;
  tell("keyway is at it.", false);
  try {
    const headers = credentials();
    const answer = await fetch(url, {method: "POST", headers, redirect: "error"});
    const text = (await answer.text()).trim();
    if (answer.status === 401) {
      forget();
      tell(`keyway does not know this ${asked}.`, true);
    } else tell(text, !answer.ok);
    finish(!answer.ok, "Close");
  } catch (error) {
    if (!user && !/^[ -~]*$/.test(token)) forget(); // no header can have it
    tell("No answer, so keyway may or may not have done it: " + error.message, true);
    finish(true, "Close");
  }
}

document.addEventListener("click", event => {
  const button = event.target.closest?.("[data-order]");
  if (button && dialog) ask(button);
});
dialog?.querySelector("form").addEventListener("submit", event => {
  event.preventDefault();
  send();
});
if (dialog) {
  part("close").addEventListener("click", () => dialog.close());
  part("forget").addEventListener("click", forget);
  dialog.addEventListener("close", () => {
    part("token").value = "";
    (order && findOrder(order.order, document))?.focus();
  });
  document.documentElement.classList.add("acting");
}

listen();
