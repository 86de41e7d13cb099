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
  sorted.set(body.id, {column, numbers, sign});
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
  sort(body);
}

for (const table of document.querySelectorAll(".sheet table")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
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
  element.innerHTML = html;
  for (const [of, isOpen] of open) {
    const details = document.getElementById(of);
    if (details) details.open = isOpen;
  }
  if (focused && focused !== element) document.getElementById(focused.id)?.querySelector("summary")?.focus();
  sort(element);
}

function showPending() {
  for (const [id, html] of pending) {
    const element = document.getElementById(id);
    if (element && isSelected(element)) continue;
    pending.delete(id);
    show(id, html);
    if (id === "picture") find();
  }
  const all = Number(document.querySelector("#problems [data-all]")?.dataset.all ?? 0);
  document.title = (all > 0 ? `(${all}) ` : "") + title;
}

let source = null, lost = null;

function listen() {
  source = new EventSource(document.body.dataset.live);
  source.onmessage = event => {
    lost = null;
    live.className = "live on";
    const text = "Live";
    if (live.textContent !== text) live.textContent = text;
    for (const [id, html] of Object.entries(JSON.parse(event.data))) pending.set(id, html);
    showPending();
  };
  source.onerror = () => {
    lost ??= new Date();
    live.className = "live off";
    const text = `No answer since ${lost.toLocaleTimeString()}; trying again`;
    if (live.textContent !== text) live.textContent = text;
    if (source.readyState === EventSource.CLOSED) setTimeout(again, 5000); // refused: it would not try again
  };
}

function again() {
  source?.close();
  if (!document.hidden) listen();
}

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

listen();
