"use strict";
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const { numbers, against } = data;
const names = numbers.classes;
const percent = (value, digits = 1) => (value == null ? "–" : `${(100 * value).toFixed(digits)} %`);
const points = (value) => (value == null ? "–" : `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(1)}`);

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/* What one confusion matrix, as entries [truth, prediction, pixels], says of each class that it has. */
function perClass(entries) {
  const found = new Map();
  const of = (index) => found.get(index) ?? found.set(index, { truth: 0, predicted: 0, hit: 0 }).get(index);
  for (const [truth, prediction, pixels] of entries) {
    of(truth).truth += pixels;
    of(prediction).predicted += pixels;
    if (truth === prediction) of(truth).hit += pixels;
  }
  for (const one of found.values()) one.iou = one.hit / (one.truth + one.predicted - one.hit);
  return found;
}

const images = numbers.per_image.map(({ name, pixels }, index) => ({
  name,
  index,
  classes: perClass(pixels),
  iou: data.iou[index],
  other: against && { classes: perClass(against.pixels[index]), iou: against.iou[index] },
}));

/* The pictures lie in the page as text, and are decoded when they are shown. */
async function pictureOf(image) {
  const held = byId(`picture-${image.index}`);
  if (!held) return null;
  const picture = JSON.parse(held.textContent);
  const packed = Uint8Array.from(atob(picture.masks), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const size = picture.width * picture.height;
  const [truth, prediction, other] = [0, 1, 2].map((plane) => bytes.subarray(plane * size, (plane + 1) * size));
  return { ...picture, truth, prediction, other: other.length ? other : null };
}

function canvas(picture, label, colorAt) {
  const { width, height } = picture;
  const element = make("canvas", { width, height });
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", label);
  const pixels = new ImageData(width, height);
  const words = new Uint32Array(pixels.data.buffer);
  for (let place = 0; place < words.length; place++) words[place] = colorAt(place);
  element.getContext("2d").putImageData(pixels, 0, 0);
  return element;
}

const rgba = (r, g, b, a = 255) => new Uint32Array(new Uint8ClampedArray([r, g, b, a]).buffer)[0];
const palette = new Uint32Array(256);
data.colors.forEach((color, index) => (palette[index] = rgba(...color)));
palette[data.void] = rgba(...data.void_color);
const WRONG = rgba(225, 0, 40);
const GREY = rgba(128, 128, 128, 200);

function panel(label, picture, ...layers) {
  const place = make("span", { className: "picture" }, ...layers);
  place.style.aspectRatio = `${picture.width} / ${picture.height}`;
  return make("span", {}, place, make("span", { className: "label" }, label));
}

function photo(picture, alt, className = "") {
  return picture.photo ? [make("img", { src: `data:image/webp;base64,${picture.photo}`, alt, className })] : [];
}

function panels(picture, image) {
  const mask = (label, plane) => panel(label, picture, canvas(picture, `${label} of ${image.name}`, (at) => palette[plane[at]]));
  const errors = (label, plane) => {
    const color = (at) => (picture.truth[at] === data.void ? GREY : picture.truth[at] === plane[at] ? 0 : WRONG);
    return panel(label, picture, ...photo(picture, "", "dimmed"), canvas(picture, `${label} of ${image.name}`, color));
  };
  const first = picture.photo ? [panel("image", picture, ...photo(picture, image.name))] : [];
  const both = picture.other ? [mask("other prediction", picture.other), errors("its errors", picture.other)] : [];
  return [...first, mask("truth", picture.truth), mask("prediction", picture.prediction), errors("errors", picture.prediction), ...both];
}

/* The order of the gallery: by the IoU of the image, or of the class that was asked for in it. */
const order = byId("order");
const chosen = byId("class");
let shown = [];

function measures(image) {
  if (chosen.value === "") return [image.iou, image.other?.iou];
  const index = Number(chosen.value);
  return [image.classes.get(index)?.iou, image.other?.classes.get(index)?.iou];
}

function change(image) {
  const [now, other] = measures(image);
  return now == null || other == null ? null : now - other;
}

function arrange() {
  const index = Number(chosen.value);
  const kept = images.filter((image) => chosen.value === "" || image.classes.has(index));
  const value = order.value === "lost" || order.value === "gained" ? change : (image) => measures(image)[0];
  const known = kept.filter((image) => value(image) != null);
  const unknown = kept.filter((image) => value(image) == null);
  if (order.value === "list") {
    shown = kept;
  } else {
    known.sort((a, b) => value(a) - value(b) || a.index - b.index);
    if (order.value === "best" || order.value === "gained") known.reverse();
    if (order.value === "median") {
      const middle = (known.length - 1) / 2;
      const rank = new Map(known.map((image, place) => [image, Math.abs(place - middle)]));
      known.sort((a, b) => rank.get(a) - rank.get(b));
    }
    shown = [...known, ...unknown];
  }
  const what = chosen.value === "" ? "IoU of the image" : `IoU of ${names[index]} in the image`;
  byId("count").value = `${shown.length} of ${images.length} images; ${what}`;
  watcher.disconnect();
  byId("cards").replaceChildren(...shown.map(card));
  for (const element of byId("cards").children) watcher.observe(element);
}

function scoreLine(image) {
  const difference = change(image);
  return percent(measures(image)[0]) + (against ? ` (${points(difference)})` : "");
}

function card(image) {
  const title = make("span", { className: "title" }, make("span", {}, image.name), make("b", {}, scoreLine(image)));
  const place = make("span", { className: "panels" });
  const held = byId(`picture-${image.index}`);
  if (held) place.style.minHeight = "12rem"; // until it is drawn
  const button = make("button", { type: "button", className: "card" }, title, place);
  button.setAttribute("aria-label", `${image.name}, IoU ${scoreLine(image)}`);
  button.image = image;
  button.addEventListener("click", () => view(shown.indexOf(image)));
  return button;
}

/* Cards out of sight hold no pictures: 1,449 images decoded at once would take a gigabyte. */
const watcher = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      target.near = isIntersecting;
      if (isIntersecting) draw(target);
      else clear(target);
    }
  },
  { rootMargin: "400px" },
);

async function draw(element) {
  const picture = await pictureOf(element.image);
  if (!picture || !element.near || !element.isConnected) return;
  const place = element.querySelector(".panels");
  place.style.minHeight = "";
  place.replaceChildren(...panels(picture, element.image));
  element.classList.add("drawn");
}

function clear(element) {
  const place = element.querySelector(".panels");
  if (!place.childElementCount) return;
  place.style.minHeight = `${place.offsetHeight}px`;
  place.replaceChildren();
  element.classList.remove("drawn");
}

/* One image large. */
const viewer = byId("viewer");
let current = 0;

async function view(place) {
  current = place;
  const image = shown[place];
  byId("viewer-name").textContent = `${image.name}: IoU ${percent(image.iou)}`;
  if (image.other) byId("viewer-name").textContent += ` (${points(image.iou == null ? null : image.iou - image.other.iou)})`;
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
  byId("viewer-panels").classList.toggle("six", all.length === 6);
}

function classRows(image) {
  const total = [...image.classes.values()].reduce((sum, one) => sum + one.truth, 0);
  const heads = ["class", "IoU", ...(against ? ["other"] : []), "in truth", "predicted"];
  const head = heads.map((text, at) => make("th", { scope: "col", className: at ? "number" : "" }, text));
  const rows = [...image.classes].sort((a, b) => b[1].truth - a[1].truth || b[1].predicted - a[1].predicted).map(([index, one]) => {
    const swatch = make("i", { className: "swatch" });
    swatch.style.background = `rgb(${data.colors[index]})`;
    const other = against ? [percent(image.other.classes.get(index)?.iou)] : [];
    const cells = [percent(one.iou), ...other, percent(one.truth / total), percent(one.predicted / total)];
    const name = make("th", { scope: "row" }, swatch, names[index]);
    return make("tr", {}, name, ...cells.map((text) => make("td", { className: "number" }, text)));
  });
  return [make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)];
}

const step = (by) => shown[current + by] && view(current + by);
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("close").addEventListener("click", () => viewer.close());
viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
viewer.addEventListener("close", () => {
  byId("viewer-panels").replaceChildren();
  const left = byId("cards").children[current];
  left?.scrollIntoView({ block: "nearest" });
  left?.focus({ preventScroll: true });
});
viewer.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by) return;
  event.preventDefault();
  step(by);
});

/* The confusion matrix, cell by cell. */
const matrix = byId("matrix");
matrix.tBodies[0].rows[0].cells[1].tabIndex = 0;

function tell(cell) {
  const truth = cell.parentElement.rowIndex - 1;
  const prediction = cell.cellIndex - 1;
  const row = numbers.confusion_matrix[truth];
  const pixels = row[prediction];
  const share = percent(pixels / row.reduce((sum, n) => sum + n, 0) || 0, 2);
  byId("cell").textContent = `${names[truth]} → ${names[prediction]}: ${share} of its pixels (${pixels.toLocaleString("en")})`;
}

matrix.addEventListener("pointerover", (event) => event.target.matches("td") && tell(event.target));
matrix.addEventListener("focusin", (event) => event.target.matches("td") && tell(event.target));
matrix.addEventListener("keydown", (event) => {
  const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
  const cell = event.target;
  const next = matrix.tBodies[0].rows[cell.parentElement.rowIndex - 1 + down]?.cells[cell.cellIndex + right];
  if (!(down || right)) return;
  event.preventDefault();
  if (!next?.matches("td")) return;
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});

byId("controls").addEventListener("submit", (event) => event.preventDefault());
order.addEventListener("change", arrange);
chosen.addEventListener("change", arrange);
for (const link of document.querySelectorAll("[data-class]")) {
  link.addEventListener("click", () => {
    chosen.value = link.dataset.class;
    arrange();
  });
}
arrange();
