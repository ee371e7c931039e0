const form = document.getElementById("filter");
const tables = [...document.querySelectorAll("table.board")];

/* The rows of methods; what they are read against stays below them. */
function methodRows(pool) {
  return [...pool.rows].slice(1).filter((row) => !row.classList.contains("reference"));
}

/* Rows of each pool by a column; what has no value stays last in either direction, and equal rows keep their order. */
function sortTable(table, column, descending) {
  const sign = descending ? -1 : 1;
  for (const pool of table.tBodies) {
    const rows = methodRows(pool).map((row) => {
      const cell = row.cells[column];
      const number = cell.dataset.value;
      return { row, value: number === undefined ? cell.textContent.trim() : number === "" ? null : Number(number) };
    });
    rows.sort((a, b) => {
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
      return sign * (typeof a.value === "number" ? a.value - b.value : a.value.localeCompare(b.value, "en"));
    });
    pool.append(...rows.map(({ row }) => row), ...pool.querySelectorAll("tr.reference"));
  }
  for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
  table.tHead.rows[0].cells[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (!head.dataset.sort) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      sortTable(table, column, now ? now === "ascending" : head.dataset.first === "descending");
    });
  });
}

/* Every row with what it is found by, read once. */
const entries = tables.flatMap((table) => [...table.tBodies]).map((pool) => ({
  pool,
  rows: methodRows(pool).map((row) => ({
    row,
    text: [pool.rows[0], ...row.querySelectorAll("th, .status")]
      .map((part) => part.textContent.replace(/\s+/g, " ").toLowerCase())
      .join(" "),
  })),
}));

function filterRows() {
  const wanted = Object.fromEntries(new FormData(form));
  const words = wanted.text.toLowerCase().split(/\s+/);
  let shown = 0;
  let all = 0;
  for (const { pool, rows } of entries) {
    const here =
      (!wanted.protocol || pool.dataset.protocol === wanted.protocol) &&
      (!wanted.dataset || pool.dataset.dataset === wanted.dataset);
    let visible = 0;
    for (const { row, text } of rows) {
      const match =
        here &&
        (!wanted.method || row.dataset.method === wanted.method) &&
        words.every((word) => text.includes(word));
      row.hidden = !match;
      visible += match;
    }
    pool.hidden = !visible;
    shown += visible;
    all += rows.length;
  }
  form.querySelector("output").textContent = shown === all ? `${all} rows` : `${shown} of ${all} rows`;
}

tables.forEach(makeSortable);
form.hidden = false;
form.addEventListener("input", filterRows);
form.addEventListener("change", filterRows);
form.addEventListener("reset", () => setTimeout(filterRows));
form.addEventListener("submit", (event) => event.preventDefault());
filterRows();
