// Renders openapi.json for people. Text only ever enters the page as text, never as markup.

const HOME = "http://127.0.0.1:8080";
const base = new URL(".", location.href).href.replace(/\/$/, "");
const METHODS = ["get", "head", "post", "put", "patch", "delete", "options", "trace"];

let components = {};

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.flat(Infinity));
  return made;
}

function resolved(value) {
  if (!value?.$ref) return value;
  const [, , kind, name] = value.$ref.split("/");
  return components[kind][name];
}

function slug(...words) {
  return words.join(" ").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
}

// The few forms of Markdown that the document uses.

function prose(text) {
  const blocks = text.replaceAll(HOME, base).split(/\n{2,}/).filter(Boolean);
  return blocks.map((block) => {
    if (block.startsWith("```")) return copyable(block.replace(/^```.*\n|\n```$/g, ""));
    if (block.startsWith("- ")) {
      return element("ul", {}, block.split("\n").map((line) => element("li", {}, inline(line.slice(2)))));
    }
    return element("p", {}, inline(block));
  });
}

function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("`")) return element("code", {}, part.slice(1, -1));
    if (part.startsWith("**")) return element("strong", {}, part.slice(2, -2));
    return part;
  });
}

function copyable(text, caption) {
  const code = element("code", {}, text);
  const button = element("button", { type: "button" }, "Copy");
  button.addEventListener("click", () => copy(code));
  return element("figure", {}, caption ? element("figcaption", {}, caption) : [], element("pre", {}, code), button);
}

async function copy(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    say("Copied");
  } catch {
    // Over plain HTTP from another machine, browsers keep the clipboard to themselves.
    getSelection().selectAllChildren(code);
    say("Selected: copy it with your keyboard");
  }
}

function say(words) {
  const said = document.getElementById("said");
  said.textContent = words;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => said.replaceChildren(), 4000);
}

// Shapes: what a body or an answer looks like, one field a line.

function shape(schema, indent = "") {
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return [element("a", { href: `#${slug("shape", name)}` }, name)];
  }
  if (schema.properties) return fields(schema, indent);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.flatMap((choice, nth) => [nth ? " | " : "", ...shape(choice, indent)]);
  if ("const" in schema) return [JSON.stringify(schema.const)];
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" | ")];
  if (schema.type === "array") return ["list of ", ...shape(schema.items ?? {}, indent)];
  return [[schema.type ?? schema.examples ?? "anything"].flat().join(" | ")];
}

function fields(schema, indent) {
  const deeper = `${indent}  `;
  const lines = Object.entries(schema.properties).flatMap(([name, field]) => {
    const optional = schema.required?.includes(name) ? "" : "?";
    return [`${deeper}${name}${optional}: `, ...shape(field, deeper), comment(field), "\n"];
  });
  return ["{\n", ...lines, `${indent}}`];
}

function comment(schema) {
  const words = resolved(schema).description;
  return words ? [" ", element("span", { class: "comment" }, `# ${words.replaceAll("`", "")}`)] : [];
}

function shapes() {
  const all = Object.entries(components.schemas).map(([name, schema]) =>
    element(
      "details",
      { id: slug("shape", name) },
      element("summary", {}, element("h3", {}, element("code", {}, name))),
      element("div", {}, prose(schema.description ?? ""), element("pre", {}, element("code", {}, shape(schema)))),
    ),
  );
  return element("section", { "aria-labelledby": "shapes" }, element("h2", { id: "shapes" }, "Shapes"), all);
}

// Paths.

function operations(paths) {
  return Object.entries(paths).map(([path, found]) => {
    const item = resolved(found);
    const methods = METHODS.filter((method) => item[method]);
    const told = item[methods[0]];
    return { path, methods, told, parameters: [...(item.parameters ?? []), ...(told.parameters ?? [])].map(resolved) };
  });
}

function group(tag, members) {
  return element(
    "section",
    { "aria-labelledby": slug(tag.name) },
    element("h2", { id: slug(tag.name) }, tag.name),
    prose(tag.description ?? ""),
    members.map(operation),
  );
}

function operation({ path, methods, told, parameters }) {
  const any = methods.length === METHODS.length;
  const label = any ? "any method" : methods.join(", ").toUpperCase();
  const head = element(
    "h3",
    {},
    element("span", { class: `methods ${any ? "any" : methods[0]}` }, label),
    " ",
    element("code", {}, path),
    " ",
    element("span", { class: "what" }, told.summary),
  );
  return element(
    "details",
    { id: slug(methods[0], path) },
    element("summary", {}, head),
    element(
      "div",
      {},
      prose(told.description ?? ""),
      any ? [] : [element("h4", {}, "Try it"), curls(path, told, parameters)],
      parameters.length ? [element("h4", {}, "Parameters"), parameterTable(parameters)] : [],
      told.requestBody ? body(told.requestBody) : [],
      element("h4", {}, "Answers"),
      answers(told.responses),
    ),
  );
}

function curls(path, told, parameters) {
  const url = base + path.replace(/\{(.+?)\}/g, (_, name) => sample(parameters.find((one) => one.name === name)));
  const examples = Object.values(told.requestBody?.content["application/json"].examples ?? {});
  if (!examples.length) return copyable(`curl ${url}`);
  return examples.map(({ summary, value }) => {
    const json = JSON.stringify(value).replaceAll("'", "'\\''");
    return copyable(`curl -N ${url} \\\n  -H 'Content-Type: application/json' \\\n  -d '${json}'`, summary);
  });
}

function sample({ name, schema }) {
  return schema.examples?.[0] ?? schema.enum?.[0] ?? name;
}

function parameterTable(parameters) {
  return table(["Name", "Where", "Meaning"], parameters, (one) => [
    element("code", {}, one.name),
    one.required ? `${one.in}, required` : one.in,
    inline(one.description ?? ""),
  ]);
}

function body(requestBody) {
  return Object.entries(requestBody.content).map(([type, { schema }]) => {
    const whole = resolved(schema);
    return [
      element("h4", {}, "Body: ", element("code", {}, type)),
      prose(whole.description ?? ""),
      element("pre", {}, element("code", {}, shape(whole))),
    ];
  });
}

function answers(responses) {
  return table(["Status", "Meaning", "Content"], Object.entries(responses), ([status, found]) => {
    const response = resolved(found);
    const contents = Object.entries(response.content ?? {}).map(([type, { schema }]) =>
      element("div", {}, element("code", {}, type), schema ? [" ", shape(schema)] : []),
    );
    return [status, inline(response.description), contents];
  });
}

function table(titles, rows, cells) {
  const head = element("tr", {}, titles.map((title) => element("th", { scope: "col" }, title)));
  const lines = rows.map((row) => {
    const [first, ...rest] = cells(row);
    return element("tr", {}, element("th", { scope: "row" }, first), rest.map((cell) => element("td", {}, cell)));
  });
  return element("table", {}, element("thead", {}, head), element("tbody", {}, lines));
}

// The page.

function render(openapi) {
  components = openapi.components;
  const all = operations(openapi.paths);
  const links = [...openapi.tags.map((tag) => tag.name), "Shapes"].map((name) =>
    element("li", {}, element("a", { href: `#${slug(name)}` }, name)),
  );
  const said = element("p", {}, `Version ${openapi.info.version}; `, element("a", { href: "openapi.json" }, "the document itself"), ".");
  document.getElementById("intro").replaceChildren(...prose(openapi.info.description), said);
  document.getElementById("groups").replaceChildren(element("ul", {}, links));
  const groups = openapi.tags.map((tag) => group(tag, all.filter(({ told }) => told.tags[0] === tag.name)));
  document.getElementById("api").replaceChildren(...groups, shapes());
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.tagName !== "DETAILS") return;
  target.open = true;
  target.scrollIntoView();
  target.firstElementChild.focus({ preventScroll: true });
}

async function start() {
  for (const code of document.querySelectorAll("code.url")) code.textContent = code.textContent.replace(HOME, base);
  const api = document.getElementById("api");
  if (!api) return;
  try {
    const answer = await fetch("openapi.json");
    if (!answer.ok) throw new Error(`the node answered ${answer.status}`);
    render(await answer.json());
  } catch (error) {
    document.getElementById("state").textContent = `The document could not be read: ${error.message}.`;
  }
  api.removeAttribute("aria-busy");
  addEventListener("hashchange", openTarget);
  openTarget();
}

start();
