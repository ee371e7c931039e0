const overview = document.getElementById("overview");
const article = document.getElementById("run");
const title = document.title;
let shared = null;

/* An element with attributes and children; text goes in as text. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function draw(tag, attributes = {}, ...children) {
  const space = document.getElementById("picture").content.firstElementChild.namespaceURI;
  const node = document.createElementNS(space, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const percent = (value) => (100 * value).toFixed(2);
const words = (name) => name.replaceAll("_", " ");

function fact(value) {
  if (value === null) return "none";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  if (typeof value === "number") return value.toLocaleString("en", { maximumSignificantDigits: 4 });
  if (typeof value !== "string") return JSON.stringify(value);
  return /^[0-9a-f]{40,}\+?$/.test(value) ? make("code", {}, value) : value;
}

/* A setting as it is typed after --set. */
const setting = (value) => (typeof value === "number" ? String(value) : fact(value));

function section(heading, ...children) {
  return make("section", {}, make("h2", {}, heading), ...children);
}

function table(heads, rows) {
  const header = make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)));
  const body = rows.map(([first, ...rest]) =>
    make("tr", {}, make("th", { scope: "row" }, first), ...rest.map((cell) => make("td", {}, cell))),
  );
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, header), make("tbody", {}, ...body)));
}

/* A heading and values by name. */
function facts(heading, values, show = fact) {
  const list = make("dl", {});
  for (const [name, value] of Object.entries(values)) {
    list.append(make("div", {}, make("dt", {}, words(name)), make("dd", {}, show(value))));
  }
  return make("div", { class: "facts" }, make("h3", {}, heading), list);
}

// An interval ends where shares end: at 0 and at 100 % it has one side.
function plusMinus(value, half, kind) {
  const sign = value <= 0 ? "+" : value >= 1 ? "−" : "±";
  return `${sign} ${percent(half)} (${kind})`;
}

function measured(run, row) {
  const covers = (kind) => document.getElementById(`covers-${kind}`)?.textContent ?? "";
  const halves = ({ value, intervals }) =>
    Object.entries(intervals)
      .filter(([, { half_width: half }]) => half !== null)
      .map(([kind, { half_width: half }]) => plusMinus(value, half, kind))
      .join(", ");
  const parts = [make("p", { class: "value" }, make("strong", {}, `${percent(run.value)} %`), ` ${run.metric}`)];
  const list = make("dl", { class: "intervals" });
  for (const [kind, { half_width: half, n }] of Object.entries(run.intervals)) {
    const range = half === null ? "no interval" :
      `${percent(Math.max(0, run.value - half))} to ${percent(Math.min(1, run.value + half))}`;
    list.append(
      make("dt", {}, half === null ? kind : plusMinus(run.value, half, kind)),
      make("dd", {}, make("p", {}, `${range}, n = ${fact(n)}`), make("p", {}, covers(kind))),
    );
  }
  if (row && run.provenance === "measured") {
    const [mean, half] = [".mean", ".half"].map((name) => row.querySelector(name).textContent.trim());
    const seeds = row.querySelector(".runs").querySelectorAll("a:not(.failed)").length;
    list.append(
      make("dt", {}, half ? `${half} (seed)` : "seed"),
      make("dd", {},
        make("p", {}, half ? `on the mean over ${seeds} seeds, ${mean} %` : "no interval: only one seed has finished"),
        make("p", {}, covers("seed"))),
    );
  }
  parts.push(list);
  const references = Object.entries(run.references);
  if (references.length) {
    const rows = references.map(([name, score]) => [
      words(name),
      `${percent(score.value)} %`,
      halves(score),
      `${run.value >= score.value ? "+" : "−"}${percent(Math.abs(run.value - score.value))}`,
    ]);
    parts.push(make("h3", {}, "Beside it"), table(["Reference", "Value", "95 %", "This run minus it"], rows));
  }
  return section("Result", ...parts);
}

/* One loss term over the steps: line, points with their values, a mark where a stage begins. */
function plot(term, values, { stages, steps }) {
  const [width, height, left, right, top, bottom] = [320, 170, 46, 10, 10, 24];
  const known = values.filter((value) => value !== null);
  const low = Math.min(0, ...known);
  const high = Math.max(...known, low + 1e-12);
  const last = steps.at(-1);
  const x = (step) => left + ((width - left - right) * step) / last;
  const y = (value) => height - bottom - ((height - top - bottom) * (value - low)) / (high - low);
  const picture = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${term} over steps` });
  const write = (text, at, anchor) => draw("text", { x: at[0], y: at[1], "text-anchor": anchor }, text);
  for (const value of [low, (low + high) / 2, high]) {
    picture.append(
      draw("path", { class: "grid", d: `M${left} ${y(value)}H${width - right}` }),
      write(String(Number(value.toPrecision(3))), [left - 6, y(value) + 4], "end"),
    );
  }
  picture.append(write("0", [x(0), height - 8], "middle"), write(`${last} steps`, [x(last), height - 8], "end"));
  let row = 0;
  for (const [name, count] of stages) {
    if (stages.length > 1) {
      const at = x(row ? steps[row - 1] : 0);
      if (row) picture.append(draw("path", { class: "stage", d: `M${at} ${top}V${height - bottom}` }));
      picture.append(write(name, [at + 4, height - bottom - 4], "start"));
    }
    row += count;
  }
  const line = values.map((value, i) =>
    value === null ? "" : `${i && values[i - 1] !== null ? "L" : "M"}${x(steps[i])} ${y(value)}`,
  );
  picture.append(draw("path", { class: "line", d: line.join("") }));
  values.forEach((value, i) => {
    if (value === null) return;
    const label = draw("title", {}, `step ${steps[i]}: ${value}`);
    picture.append(draw("circle", { cx: x(steps[i]), cy: y(value), r: 2.5 }, label));
  });
  return make("figure", {}, make("figcaption", {}, term), picture);
}

function training(run) {
  const terms = Object.entries(run.curve.terms);
  if (!terms.length) return section("Training", make("p", {}, "Nothing was trained."));
  const names = run.curve.stages.flatMap(([name, count]) => Array(count).fill(name));
  const rows = run.curve.steps.map((step, i) => [
    String(step),
    names[i],
    ...terms.map(([, values]) => (values[i] === null ? "" : String(values[i]))),
  ]);
  return section(
    "Training",
    make("p", {}, "The terms of the loss, each the mean since the point before it; weights are included."),
    make("div", { class: "plots" }, ...terms.map(([term, values]) => plot(term, values, run.curve))),
    make("details", {}, make("summary", {}, "As a table"),
      table(["Step", "Stage", ...terms.map(([term]) => term)], rows)),
  );
}

function settings(run) {
  const single = {};
  const groups = [];
  for (const [name, value] of Object.entries(run.config)) {
    if (value === null || typeof value !== "object") single[name] = value;
    else if (Object.keys(value).length) groups.push(facts(name, value, setting));
  }
  if (Object.keys(single).length) groups.push(facts("run", single, setting));
  return section("Settings", make("div", { class: "groups" }, ...groups));
}

function environment(run) {
  const own = {};
  for (const name of ["key", "started", "seconds", "peak_memory_mb", "provenance"]) {
    if (run[name] !== undefined) own[name] = run[name];
  }
  const parts = [facts("record", own)];
  if (run.environment) parts.push(facts("environment", run.environment));
  return section("Record and environment", make("div", { class: "groups" }, ...parts));
}

function command(run) {
  const text = make("code", {}, run.command);
  const button = make("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(run.command);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Selected: press Ctrl+C";
    }
  });
  return section("Run it again", make("div", { class: "command" }, make("pre", {}, text), button));
}

function about(run) {
  const paragraph = (text) =>
    make("p", {}, ...text.split("``").map((part, i) => (i % 2 ? make("code", {}, part) : part)));
  return section(
    "About",
    ...Object.entries(run.about).flatMap(([kind, paragraphs]) => [
      make("h3", {}, `${kind} ${run[kind]}`),
      ...paragraphs.map(paragraph),
    ]),
  );
}

/* The runs of the same row of the leaderboard. */
function siblings(row, hash) {
  const links = [...row.querySelectorAll(".runs a")].map((link) => link.cloneNode(true));
  links.find((link) => link.hash === hash).setAttribute("aria-current", "page");
  return make("p", { class: "runs" }, "Seeds ", ...links.flatMap((link) => [link, " "]));
}

function build(run, row, hash) {
  const [preset, changed] = run.preset;
  const where = [run.protocol, run.dataset, preset, `${run.backbone} from ${run.teacher}`];
  const parts = [
    make("p", { class: "where" }, ...where.map((text) => make("span", {}, text)),
      ...changed.map((setting) => make("code", {}, setting))),
  ];
  parts.push(row ? siblings(row, hash) : make("p", {}, "Superseded: this run does not count on the leaderboard."));
  if (run.error !== undefined) {
    parts.push(section("Failed", make("p", { class: "error" }, make("code", {}, run.error))));
  }
  if (run.value !== undefined) parts.push(measured(run, row));
  if (run.value !== undefined && run.provenance === "measured") parts.push(training(run));
  if (run.command) parts.push(command(run));
  parts.push(settings(run));
  const groups = Object.entries({ student: run.student_facts, teacher: run.teacher_facts, protocol: run.facts })
    .filter(([, values]) => values && Object.keys(values).length)
    .map(([name, values]) => facts(name, values));
  if (groups.length) parts.push(section("Networks and data", make("div", { class: "groups" }, ...groups)));
  parts.push(environment(run));
  if (Object.keys(run.about).length) parts.push(about(run));
  return parts;
}

/* Numbers that stand for shared values, replaced by them. */
function load(text) {
  shared ??= JSON.parse(document.getElementById("shared").textContent);
  const run = JSON.parse(text);
  for (const part of ["config", "about"]) {
    for (const name of Object.keys(run[part])) run[part][name] = shared[run[part][name]];
  }
  for (const name of ["teacher_facts", "facts", "environment"]) if (name in run) run[name] = shared[run[name]];
  return run;
}

/* The first link to a run: of the leaderboard, or of the list of superseded runs. */
const linkTo = (hash) => [...overview.querySelectorAll("a")].find((link) => link.hash === hash);

function show() {
  const { hash } = location;
  const opened = hash.startsWith("#run-");
  const left = article.hidden ? null : article.dataset.hash;
  overview.hidden = opened;
  article.hidden = !opened;
  if (!opened) {
    document.title = title;
    if (left) linkTo(left)?.focus();
    return;
  }
  const source = document.querySelector(`script[data-run="${CSS.escape(hash.slice("#run-".length))}"]`);
  const run = source && load(source.textContent);
  const name = run ? `${run.method}, seed ${run.seed}` : "No such run in this report";
  article.dataset.hash = hash;
  article.replaceChildren(
    make("p", {}, make("a", { class: "back", href: "#leaderboard" }, "← Leaderboard")),
    make("h1", {}, name),
    ...(run ? build(run, linkTo(hash).closest("table.board tr"), hash) : []),
  );
  document.title = `${name} – ${title}`;
  scrollTo(0, 0);
  article.focus({ preventScroll: true });
}

addEventListener("hashchange", show);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !article.hidden) location.hash = "leaderboard";
});
show();
