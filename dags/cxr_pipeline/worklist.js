"use strict";
const rows = [...document.querySelectorAll("tbody tr")], buttons = [...document.querySelectorAll("[data-filter]")];
const search = document.querySelector("input"), dialog = document.querySelector("dialog");
let status = "all";
function show() {
  const words = search.value.toLowerCase();
  for (const row of rows)
    row.hidden = (status !== "all" && row.dataset.status !== status) || !row.dataset.text.includes(words);
  for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.filter === status));
  const seen = rows.filter(row => !row.hidden).length;
  document.querySelector("#shown").textContent = `${seen} of ${rows.length} films shown.`;
}
function move(step) {
  const seen = rows.filter(row => !row.hidden);
  const at = seen.indexOf(document.activeElement.closest("tbody tr"));
  const next = seen[at < 0 ? 0 : Math.min(seen.length - 1, Math.max(0, at + step))];
  if (next) { next.focus({preventScroll: true}); next.scrollIntoView({block: "center"}); }
}
function enlarge(row) {
  const image = row && row.querySelector("img");
  if (!image) return;
  dialog.querySelector("img").src = image.src;
  dialog.querySelector("img").alt = image.alt;
  dialog.querySelector("p").textContent = row.querySelector(".film b").textContent;
  dialog.showModal();
}
for (const button of buttons) button.addEventListener("click", () => { status = button.dataset.filter; show(); });
search.addEventListener("input", show);
for (const row of rows) row.addEventListener("click", event => {
  row.focus();
  if (event.target.tagName === "IMG") enlarge(row);
});
dialog.addEventListener("click", () => dialog.close());
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (dialog.open) { if (event.key === "Enter") { event.preventDefault(); dialog.close(); } return; }
  if (event.target === search) { if (event.key === "Escape" || event.key === "Enter") search.blur(); return; }
  const number = Number(event.key);
  if (event.key === "j" || event.key === "ArrowDown") move(1);
  else if (event.key === "k" || event.key === "ArrowUp") move(-1);
  else if (event.key === "Enter") enlarge(document.activeElement.closest("tbody tr"));
  else if (event.key === "/") search.focus();
  else if (number >= 1 && number <= buttons.length) buttons[number - 1].click();
  else return;
  if (event.target.tagName !== "BUTTON" || event.key !== "Enter") event.preventDefault();
});
show();
