/* One large image. */
const viewer = byId("viewer");
let current = 0;

function heading(image) {
  const { iou, other } = image;
  const difference = against ? ` (${points(iou == null || other.iou == null ? null : iou - other.iou)})` : "";
  const whole = percent(iou) + difference;
  if (chosen.value === "") return `${image.name}: IoU ${whole}`;
  return `${image.name}: IoU of ${names[chosen.value]} ${scoreLine(image)}, of the image ${whole}`;
}

async function view(place) {
  current = place;
  const image = shown[place];
  byId("viewer-name").textContent = heading(image);
  byId("viewer-place").textContent = `${place + 1} of ${shown.length}`;
  byId("previous").disabled = place === 0;
  byId("next").disabled = place === shown.length - 1;
  byId("viewer-classes").replaceChildren(...classRows(image));
  if (!viewer.open) viewer.showModal();
  byId("viewer-name").focus();
  const picture = await pictureOf(image);
  if (current !== place) return;
  const all = picture ? panels(picture, image) : [];
  byId("viewer-panels").replaceChildren(...all);
  byId("viewer-panels").classList.toggle("five", all.length === 5);
  byId("viewer-panels").classList.toggle("six", all.length === 6);
}

function classRows(image) {
  const total = [...image.classes.values()].reduce((sum, one) => sum + one.truth, 0);
  const heads = ["class", "IoU", ...(against ? ["other"] : []), "in ground truth", "predicted"];
  const head = heads.map((text, at) => make("th", { scope: "col", className: at ? "number" : "" }, text));
  const rows = [...image.classes].sort((a, b) => b[1].truth - a[1].truth || b[1].predicted - a[1].predicted).map(([index, one]) => {
    const other = against ? [percent(image.other.classes.get(index)?.iou)] : [];
    const cells = [percent(one.iou), ...other, percent(one.truth / total), percent(one.predicted / total)];
    const name = make("th", { scope: "row" }, swatch(index), names[index]);
    return make("tr", {}, name, ...cells.map((text) => make("td", { className: "number" }, text)));
  });
  return [make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)];
}

const go = (place) => shown[place] && view(place);
byId("previous").addEventListener("click", () => go(current - 1));
byId("next").addEventListener("click", () => go(current + 1));
byId("close").addEventListener("click", () => viewer.close());
viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
viewer.addEventListener("close", () => {
  byId("viewer-panels").replaceChildren();
  const left = byId("cards").children[current];
  left?.scrollIntoView({ block: "nearest" });
  left?.focus({ preventScroll: true });
});
viewer.addEventListener("keydown", (event) => {
  const place = { ArrowLeft: current - 1, ArrowRight: current + 1, Home: 0, End: shown.length - 1 }[event.key];
  if (place === undefined) return;
  event.preventDefault();
  go(place);
});
