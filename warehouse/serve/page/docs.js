// Shows the OpenAPI document of this gateway.
"use strict";

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function kindOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.anyOf) return schema.anyOf.map(kindOf).filter((kind) => kind !== "null").join(" | ");
  if (schema.type === "array") return `list of ${kindOf(schema.items)}`;
  return schema.type || "";
}

function table(columns, rows) {
  const made = element("table");
  const head = made.createTHead().insertRow();
  for (const column of columns) head.append(element("th", column));
  const body = made.createTBody();
  for (const row of rows) body.insertRow().append(...row.map((cell) => element("td", cell, cell.length > 40 ? "wrap" : "")));
  const scroll = element("div", undefined, "scroll");
  scroll.tabIndex = 0;
  scroll.append(made);
  return scroll;
}

function operation(path, method, described, document_) {
  const section = element("section");
  section.append(element("h2", `${method.toUpperCase()} ${path}`), element("p", described.summary));
  const fields = (described.parameters || []).map((parameter) => [
    parameter.name, kindOf(parameter.schema), parameter.required ? "yes" : "",
    parameter.description || parameter.schema.description || ""]);
  const body = described.requestBody?.content["application/json"]?.schema;
  if (body) {
    const schema = document_.components.schemas[kindOf(body)];
    for (const [name, field] of Object.entries(schema.properties)) {
      fields.push([name, kindOf(field), (schema.required || []).includes(name) ? "yes" : "", field.description || ""]);
    }
  }
  if (fields.length) section.append(table(["field", "type", "required", "meaning"], fields));
  section.append(element("h3", "Answers"));
  section.append(table(["status", "meaning", "content"], Object.entries(described.responses).map(([status, answer]) => [
    status, answer.description,
    Object.entries(answer.content || {}).map(([media, held]) => [media, kindOf(held.schema)].filter(Boolean).join(": ")).join("; ")])));
  return section;
}

async function start() {
  const main = document.getElementById("operations");
  const found = await (await fetch("/openapi.json")).json();
  const intro = element("section");
  intro.append(
    element("p", "Send a token as the header Authorization: Bearer TOKEN. The tier open needs none, unless the network asks for one."),
    element("pre", `curl --json '{"sql": "select * from mart_cohort_catalogue"}' ${location.origin}/v1/sql`));
  main.append(intro);
  for (const [path, methods] of Object.entries(found.paths)) {
    for (const [method, described] of Object.entries(methods)) main.append(operation(path, method, described, found));
  }
}

start();
