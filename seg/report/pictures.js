/* Photos and masks are text in the page. They are decoded when they are shown. */
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
const GRAY = rgba(128, 128, 128, 200);

function panel(label, picture, ...layers) {
  const place = make("span", { className: "picture" }, ...layers);
  place.style.setProperty("--shape", `${picture.width} / ${picture.height}`);
  return make("span", {}, place, make("span", { className: "label" }, label));
}

function photo(picture, alt, className = "") {
  if (!picture.photo) return [];
  return [make("img", { src: `data:image/webp;base64,${picture.photo}`, alt, className, decoding: "sync" })];
}

function panels(picture, image) {
  const mask = (label, plane) => panel(label, picture, canvas(picture, `${label} of ${image.name}`, (at) => palette[plane[at]]));
  const errors = (label, plane) => {
    const color = (at) => (picture.truth[at] === data.void ? GRAY : picture.truth[at] === plane[at] ? 0 : WRONG);
    return panel(label, picture, ...photo(picture, "", "dimmed"), canvas(picture, `${label} of ${image.name}`, color));
  };
  const first = picture.photo ? [panel("image", picture, ...photo(picture, image.name))] : [];
  const both = picture.other ? [mask("other prediction", picture.other), errors("other errors", picture.other)] : [];
  return [...first, mask("ground truth", picture.truth), mask("prediction", picture.prediction), errors("errors", picture.prediction), ...both];
}
