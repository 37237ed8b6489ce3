/* The confusion matrix describes the cell under the pointer or with the focus. */
const matrix = byId("matrix");
const rows = matrix.tBodies[0].rows;
rows[0].cells[1].tabIndex = 0;

function describe(cell) {
  const truth = cell.parentElement.rowIndex - 1;
  const prediction = cell.cellIndex - 1;
  const row = numbers.confusion_matrix[truth];
  const total = row.reduce((sum, n) => sum + n, 0);
  const share = `${percent(row[prediction] / total, 2)} of its pixels (${row[prediction].toLocaleString("en")})`;
  byId("cell").textContent = `${names[truth]} → ${names[prediction]}: ${total ? share : `${names[truth]} is not in the ground truth`}`;
}

matrix.addEventListener("pointerover", (event) => event.target.matches("td") && describe(event.target));
matrix.addEventListener("focusin", (event) => event.target.matches("td") && describe(event.target));
matrix.addEventListener("keydown", (event) => {
  const cell = event.target;
  const [row, column] = [cell.parentElement.rowIndex - 1, cell.cellIndex];
  const places = {
    ArrowUp: [row - 1, column],
    ArrowDown: [row + 1, column],
    ArrowLeft: [row, column - 1],
    ArrowRight: [row, column + 1],
    Home: [row, 1],
    End: [row, names.length],
  };
  if (!places[event.key]) return;
  event.preventDefault();
  const next = rows[places[event.key][0]]?.cells[places[event.key][1]];
  if (!next?.matches("td")) return;
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});
