// Tables that can be sorted and filtered. Without this script they are whole, unsorted.
"use strict";

function value(row, column) {
  const cell = row.cells[column];
  const key = cell.dataset.key;
  if (key === undefined) return cell.textContent.trim().toLowerCase();
  return key === "" ? NaN : Number(key); // Number("") would be 0
}

const empty = (v) => v === "" || Number.isNaN(v);

function compare(a, b) {
  if (empty(a) || empty(b)) return empty(a) - empty(b);
  return typeof a === "number" ? a - b : a.localeCompare(b);
}

function sort(table, column, descending) {
  const body = table.tBodies[0];
  const sign = descending ? -1 : 1;
  const keyed = [...body.rows].map((row) => [value(row, column), row]);
  keyed.sort(([a], [b]) => (empty(a) || empty(b) ? 1 : sign) * compare(a, b));
  body.append(...keyed.map(([, row]) => row));
  [...table.tHead.rows[0].cells].forEach((head, index) => {
    if (index === column) {
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    } else {
      head.removeAttribute("aria-sort");
    }
  });
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () =>
      sort(table, column, head.getAttribute("aria-sort") === "ascending"),
    );
    head.append(button);
  });
}

function makeFilters(form) {
  const table = document.getElementById(form.dataset.table);
  const asked = new URLSearchParams(location.search);
  const fields = [...form.querySelectorAll("select, input")];
  const shown = form.querySelector("output");
  const apply = () => {
    let count = 0;
    for (const row of table.tBodies[0].rows) {
      const fits = fields.every(({ name, value }) =>
        name === "words"
          ? row.textContent.toLowerCase().includes(value.trim().toLowerCase())
          : value === "" || row.dataset[name] === value,
      );
      row.hidden = !fits;
      count += fits;
    }
    shown.textContent = `${count} of ${table.tBodies[0].rows.length} shown`;
  };
  for (const field of fields) {
    if (asked.has(field.name)) field.value = asked.get(field.name);
    field.addEventListener("input", apply);
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
document.querySelectorAll("form.filters").forEach(makeFilters);
