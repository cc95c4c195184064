// The page: asks the same addresses as any other client. The token stays in this tab and goes with its session.
"use strict";

const SHOWN = 500;
const at = (id) => document.getElementById(id);

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function headers() {
  const token = at("token").value.trim();
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function target() {
  const tier = at("tier").value;
  const chosen = { tier };
  if (at("release").value) chosen.release = at("release").value;
  const part = at("part").value.trim();
  if (tier === "site") chosen.site = part;
  if (tier === "controlled") chosen.project = part;
  return chosen;
}

async function call(address, options) {
  let response;
  try {
    response = await fetch(address, { ...options, headers: { ...headers(), ...(options || {}).headers } });
  } catch {
    throw new Error("The gateway does not answer, or broke off; ask for less or try again.");
  }
  if (!response.ok) {
    let sentence = `The gateway answered ${response.status}.`;
    try {
      sentence = (await response.json()).error || sentence;
    } catch { /* a proxy's own page */ }
    throw new Error(sentence);
  }
  return response;
}

function ask(more) {
  const body = JSON.stringify({ sql: at("sql").value, ...target(), ...more });
  return call("/v1/sql", { method: "POST", body, headers: { "Content-Type": "application/json" } });
}

function say(text, isError) {
  at("status").textContent = text;
  at("status").classList.toggle("error", Boolean(isError));
}

function shown(value) {
  if (value === null || value === undefined) return element("td", "blank", "blank");
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return element("td", text, typeof value === "number" ? "number" : text.length > 60 ? "wrap" : "");
}

function showTable(columns, rows) {
  const table = element("table");
  const head = table.createTHead().insertRow();
  for (const column of columns) {
    const isNumber = rows.length && rows.every((row) => row[column] === null || typeof row[column] === "number")
      && rows.some((row) => typeof row[column] === "number");
    const cell = element("th", column, isNumber ? "number" : "");
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const row of rows) body.insertRow().append(...columns.map((column) => shown(row[column])));
  at("result").replaceChildren(table);
  at("result").hidden = false;
}

async function working(work) {
  const buttons = document.querySelectorAll("#form button");
  buttons.forEach((button) => { button.disabled = true; });
  say("Asking…");
  try {
    await work();
  } catch (error) {
    say(error.message, true);
  } finally {
    buttons.forEach((button) => { button.disabled = false; });
  }
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  working(async () => {
    const response = await ask({ format: "json", limit: SHOWN + 1 });
    const rows = await response.json();
    const named = response.headers.get("Ranvier-Columns");
    const columns = named ? JSON.parse(named) : Object.keys(rows[0] || {});
    showTable(columns, rows.slice(0, SHOWN));
    const release = response.headers.get("Ranvier-Release");
    const many = rows.length > SHOWN ? `The first ${SHOWN} rows; download for all` : `${rows.length} rows`;
    say(`${many}. Release ${release}.`);
  });
});

at("sql").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("form").requestSubmit();
});

at("tables").addEventListener("click", () => working(async () => {
  const found = await (await call(`/v1/tables?${new URLSearchParams(target())}`)).json();
  const rows = found.tables.flatMap((table) => table.columns.map((column) => (
    { table: table.name, column: column.name, type: column.type, description: column.description || "" })));
  showTable(["table", "column", "type", "description"], rows);
  say(`${found.tables.length} tables of ${found.tier}. Release ${found.release}.`);
}));

for (const button of document.querySelectorAll("[data-format]")) {
  button.addEventListener("click", () => working(async () => {
    const format = button.dataset.format;
    const response = await ask({ format });
    const content = await response.blob();
    const link = element("a");
    link.href = URL.createObjectURL(content);
    link.download = `answer-${response.headers.get("Ranvier-Release")}.${format}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    say(`Downloaded ${(content.size / 1024).toFixed(1)} kB of ${format}.`);
  }));
}

at("tier").addEventListener("change", () => {
  const tier = at("tier").value;
  at("part-label").hidden = tier !== "site" && tier !== "controlled";
  at("part-name").textContent = tier === "site" ? "Site" : "Project";
});

at("token").value = sessionStorage.getItem("token") || "";
at("token").addEventListener("change", () => {
  sessionStorage.setItem("token", at("token").value.trim());
  start();
});

function showVariables(variables, counts) {
  const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const items = [];
  for (const variable of variables) {
    const codes = Object.entries(variable.codes || {}).flat().join(" ");
    const text = `${variable.name} ${variable.table} ${variable.definition} ${codes}`.toLowerCase();
    if (!words.every((word) => text.includes(word))) continue;
    const item = element("li");
    const title = element("h3", `${variable.name} `);
    title.append(element("span", [variable.table, variable.type, variable.unit].filter(Boolean).join(" · "), "type"));
    item.append(title, element("p", variable.definition));
    if (variable.allowed) item.append(element("p", `Allowed: ${variable.allowed}`, "blank"));
    const strata = counts.get(variable.name);
    if (strata) {
      const list = element("ul", undefined, "counts");
      list.setAttribute("aria-label", `Subjects by ${variable.name}`);
      for (const [stratum, count] of strata) {
        const meaning = (variable.codes || {})[stratum];
        const entry = element("li", `${stratum}: ${count === null ? "blank" : count}`);
        if (meaning) entry.title = meaning;
        list.append(entry);
      }
      item.append(list);
    }
    items.push(item);
  }
  at("variables").replaceChildren(...items);
  at("found").textContent = `${items.length} of ${variables.length} variables`;
}

async function cohort() {
  const counts = new Map();
  const body = JSON.stringify({ sql: "select stratum_kind, stratum, subject_count from mart_cohort_catalogue", format: "json" });
  try {
    const response = await call("/v1/sql", { method: "POST", body, headers: { "Content-Type": "application/json" } });
    for (const row of await response.json()) {
      if (!counts.has(row.stratum_kind)) counts.set(row.stratum_kind, []);
      counts.get(row.stratum_kind).push([row.stratum, row.subject_count]);
    }
  } catch (error) {
    say(error.message, true);
  }
  return counts;
}

async function start() {
  try {
    const releases = await (await call("/v1/releases")).json();
    at("release").replaceChildren(...releases.map((release) => {
      const option = element("option", release.version + (release.is_current ? " *" : ""));
      option.value = release.is_current ? "" : release.version;
      option.selected = release.is_current;
      return option;
    }));
    const variables = await (await call("/v1/dictionary")).json();
    const counts = await cohort();
    // What is counted comes first: it is what somebody without a token can ask about.
    variables.sort((a, b) => counts.has(b.name) - counts.has(a.name));
    const all = (counts.get("all") || [])[0];
    at("all").textContent = all && all[1] !== null ? `All together: ${all[1]}.` : "";
    showVariables(variables, counts);
    at("search").oninput = () => showVariables(variables, counts);
  } catch (error) {
    say(error.message, true);
  }
}

start();
