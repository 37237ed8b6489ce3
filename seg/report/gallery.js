/* The gallery is ordered by the IoU of the image, or of the chosen class in the image. */
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
  byId("count").value = countLine();
  watcher.disconnect();
  byId("cards").replaceChildren(...shown.map(card));
  for (const element of byId("cards").children) watcher.observe(element);
  if (!shown.length) byId("cards").append(make("p", { className: "empty" }, emptyLine()));
  prepare();
}

function countLine() {
  const all = `${shown.length} of ${images.length} images`;
  if (chosen.value === "") return `${all}; IoU of the image`;
  const [index, name] = [Number(chosen.value), names[chosen.value]];
  const inTruth = shown.filter((image) => image.classes.get(index).truth).length;
  const predicted = shown.length - inTruth;
  const parts = [`${inTruth} with ${name}`, ...(predicted ? [`${predicted} where it was only predicted`] : [])];
  return `${all}: ${parts.join(", ")}; IoU of ${name} in the image`;
}

function emptyLine() {
  return chosen.value === "" ? "There are no images." : `${names[chosen.value]} is in no ground truth and in no prediction. Choose another class.`;
}

function scoreLine(image) {
  const difference = change(image);
  return percent(measures(image)[0]) + (against ? ` (${points(difference)})` : "");
}

const NAMED = 6; // classes in the legend of a card, the largest first

function legend(image) {
  const area = ([, one]) => Math.max(one.truth, one.predicted);
  const sorted = [...image.classes].sort((a, b) => area(b) - area(a)).map(([index]) => make("span", {}, swatch(index), names[index]));
  const more = sorted.length - NAMED;
  return make("span", { className: "legend" }, ...sorted.slice(0, NAMED), ...(more > 0 ? [`and ${more} more`] : []));
}

function card(image, place) {
  const title = make("span", { className: "title" }, make("span", {}, image.name), make("b", {}, scoreLine(image)));
  const held = byId(`picture-${image.index}`);
  const drawing = make("span", { className: "panels" }, ...(held ? [] : ["There is no picture of this image."]));
  if (held) drawing.style.minHeight = "12rem"; // until it is drawn
  const button = make("button", { type: "button", className: place < PRINTED ? "card printed" : "card" }, title, drawing, legend(image));
  button.setAttribute("aria-label", `${image.name}, IoU ${scoreLine(image)}`);
  button.image = image;
  button.addEventListener("click", () => view(shown.indexOf(image)));
  return button;
}

/* Cards out of sight are empty: 1,449 decoded images would take a gigabyte. */
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
  if (picture && element.near && element.isConnected) fill(element, picture);
}

function fill(element, picture) {
  const place = element.querySelector(".panels");
  place.style.minHeight = "";
  place.replaceChildren(...panels(picture, element.image));
}

function clear(element) {
  const place = element.querySelector(".panels");
  if (!place.querySelector(".picture")) return;
  place.style.minHeight = `${place.offsetHeight}px`;
  place.replaceChildren();
}

/* The first cards are printed. A browser does not wait for decoding when it prints, so their pictures are kept decoded. */
const PRINTED = 24;
let prepared = new Map();

async function prepare() {
  const first = shown.slice(0, PRINTED);
  byId("printed").textContent = shown.length > PRINTED ? `The first ${PRINTED} of ${shown.length} images are printed.` : "";
  const kept = (prepared = new Map(first.map((image) => [image, prepared.get(image)])));
  for (const image of first) {
    if (prepared !== kept) return; // arranged again
    if (!kept.get(image)) kept.set(image, await pictureOf(image));
  }
}

addEventListener("beforeprint", () => {
  for (const element of document.querySelectorAll(".card.printed")) {
    const picture = prepared.get(element.image);
    if (picture && !element.querySelector(".picture")) fill(element, picture);
  }
});
addEventListener("afterprint", () => {
  for (const element of document.querySelectorAll(".card.printed")) if (!element.near) clear(element);
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
