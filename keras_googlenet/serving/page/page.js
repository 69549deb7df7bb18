// A page for TensorFlow Serving's REST interface and the exports of keras-googlenet. Nothing leaves the browser but the
// request to the server that served the page, or to the one that `?server=` names. Names are set as text, never as HTML.

const MAX_PIXELS = 16_000_000; // what an export takes by default
const SENT_AS_IS = ["image/jpeg", "image/png"];
const NAMED = 32; // classes to name: the rows of a request that the shipped batching parameters take
const DOUBT = 0.7; // a probability below which the answer is called uncertain
const KEPT = 24; // images in the history
const SMALL = 128; // pixels: a smaller image is enlarged

const $ = (id) => document.getElementById(id);
const parameters = new URLSearchParams(location.search);
const server = new URL(`${parameters.get("server") ?? "."}/`.replace(/\/+$/, "/"), location.href);

let model = null; // {name, url, version, hasMaps, classes, count}
let shown = null; // the image on the stage: {file, url, width, height, name, sent, answer, maps, region}
let ready = Promise.resolve(); // once the model is described
let opened = 0; // numbers of the latest model and image asked for: answers to earlier ones are dropped
let asked = 0;
let language = "curl";
const tried = [];

// --- the server ----------------------------------------------------------------------------------

async function ask(url, body) {
  let response, answer;
  try {
    response = await fetch(url, body && { method: "POST", body: JSON.stringify(body) });
  } catch {
    throw new Error(`No answer from ${server.origin}: is the server running?`);
  }
  try {
    answer = await response.json();
  } catch {
    throw new Error(`${url} answered ${response.status} ${response.statusText} and no JSON: is it TensorFlow Serving?`);
  }
  if (!response.ok) throw new Error(answer.error ?? `${url} answered ${response.status}`);
  return answer;
}

const modelUrl = (name, version) =>
  new URL(`v1/models/${encodeURIComponent(name)}${version ? `/versions/${version}` : ""}`, server).href;

async function readyVersions(name) {
  const status = await ask(modelUrl(name));
  return status.model_version_status.filter((one) => one.state === "AVAILABLE").map((one) => one.version);
}

async function describe(name, wanted) {
  const versions = await readyVersions(name);
  if (!versions.length) throw new Error(`Model ${name} has no version that is ready`);
  const version = versions.includes(wanted) ? wanted : versions[0];
  const url = modelUrl(name, versions.length > 1 ? version : null);
  const signatures = (await ask(`${url}/metadata`)).metadata.signature_def.signature_def;
  const outputs = signatures.serving_default?.outputs ?? {};
  if (!outputs.classes || !outputs.scores) {
    throw new Error(`Model ${name} is not an export of keras-googlenet: expected the outputs classes and scores`);
  }
  const dimensions = outputs.probabilities?.tensor_shape?.dim ?? [];
  const count = Number(dimensions.at(-1)?.size ?? 0);
  const instances = [...Array(Math.min(count, NAMED)).keys()];
  const classes = signatures.labels && count
    ? (await ask(`${url}:predict`, { signature_name: "labels", instances })).predictions
    : [];
  return { name, url, version, versions, count, classes, hasMaps: Boolean(signatures.cam) };
}

// --- images --------------------------------------------------------------------------------------

async function opening(file) {
  const url = URL.createObjectURL(file);
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(url);
    throw new Error(`${file.name || "The file"} is not an image that this browser can read`);
  }
  return { file, url, image, width: image.naturalWidth, height: image.naturalHeight, name: file.name || "pasted image" };
}

// The bytes to send: the file itself, or a PNG or JPEG of it where an export would refuse it.
async function prepared({ file, image, width, height }) {
  const scale = Math.min(1, Math.sqrt(MAX_PIXELS / (width * height)));
  if (scale === 1 && SENT_AS_IS.includes(file.type)) return { blob: file, note: "" };
  const canvas = document.createElement("canvas");
  canvas.width = Math.floor(width * scale);
  canvas.height = Math.floor(height * scale);
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const type = scale < 1 ? "image/jpeg" : "image/png";
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, type, 0.95));
  if (!blob) throw new Error("This browser cannot convert the image to PNG or JPEG");
  const size = scale < 1 ? ` of ${canvas.width} x ${canvas.height}` : "";
  return { blob, note: `, sent as ${type === "image/png" ? "PNG" : "JPEG"}${size}` };
}

async function base64(blob) {
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("The file cannot be read"));
    reader.readAsDataURL(blob);
  });
  return url.slice(url.indexOf(",") + 1);
}

// --- from an image to an answer ------------------------------------------------------------------

async function settled() { // a model may be opened while another one is
  let last;
  do {
    last = ready;
    await last;
  } while (last !== ready);
}

async function classify(file) {
  const number = ++asked;
  await settled();
  await attempt(async () => {
    const before = model;
    if (!before) throw new Error("No model is open: enter the name of one");
    const versions = await readyVersions(before.name);
    if (number !== asked) return;
    if (model === before && !versions.includes(before.version)) open(before.name); // another one was published
    await settled();
    const target = model;
    if (!target) throw new Error(`Model ${before.name} is no longer open`);
    const one = await opening(file);
    if (number !== asked) return;
    const { blob, note } = await prepared(one);
    Object.assign(one, { note, target });
    show(one);
    $("answer").textContent = "Waiting for the server";
    const b64 = await base64(blob);
    const start = performance.now();
    const { predictions } = await ask(`${target.url}:predict`, { instances: [{ b64 }] });
    one.milliseconds = performance.now() - start;
    one.answer = predictions[0];
    remember(one);
    if (number === asked) show(one);
    if (!target.hasMaps) return;
    const found = await ask(`${target.url}:predict`, { signature_name: "cam", instances: [{ b64 }] });
    one.maps = found.predictions[0].maps ?? [found.predictions[0].cam];
    one.region = found.predictions[0].region ?? [0, 0, 1, 1]; // what of the image the network saw
    if (shown === one) show(one);
  });
}

async function attempt(work) {
  $("error").hidden = true;
  try {
    await work();
  } catch (error) {
    $("error").textContent = error.message;
    $("error").hidden = false;
    if (shown && !shown.answer) $("answer").textContent = "No answer";
  }
}

function show(one, index = 0) {
  shown = one;
  $("stage").hidden = false;
  $("hint").textContent = "Drop or paste the next image here";
  $("image").src = one.url;
  $("image").alt = one.name;
  $("image").classList.toggle("small", Math.max(one.width, one.height) < SMALL);
  $("about").textContent = `${one.name}, ${one.width} x ${one.height} pixels${one.note}`;
  $("latency").textContent = one.answer
    ? `${one.milliseconds.toFixed(0)} ms for request and answer, model ${one.target.name}, version ${one.target.version}`
    : "";
  showClasses(one, index);
  showMap(one, index);
}

function showClasses(one, index) {
  const { classes = [], scores = [] } = one.answer ?? {};
  if (one.answer) $("answer").textContent = `${classes[0]}, ${percent(scores[0])}`;
  $("doubt").hidden = !(scores[0] < DOUBT);
  $("doubt").textContent = `Low confidence: the image may be hard, or show something else than the ${counted(one.target)} that the network knows.`;
  $("classes").replaceChildren(...classes.map((name, place) => {
    const button = element("button", element("span", name, "name"), element("span", percent(scores[place]), "share"), element("span", "", "bar"));
    button.lastChild.style.backgroundSize = `${100 * scores[place]}% 100%`;
    button.disabled = !one.maps?.[place];
    if (!button.disabled) button.ariaPressed = String(place === index);
    button.onclick = () => {
      show(one, place);
      $("classes").children[place].firstChild.focus();
    };
    return element("li", button);
  }));
}

function showMap(one, index) {
  const values = one.maps?.[index];
  $("overlay").hidden = $("map").hidden = !values;
  if (!values) return;
  $("mapped").textContent = one.answer.classes[index];
  const largest = Math.max(...one.maps.flat(2).map(Math.abs), 1e-6);
  const [height, width] = [values.length, values[0].length];
  const small = new OffscreenCanvas(width, height);
  const pixels = new ImageData(width, height);
  values.flat().forEach((value, place) => {
    const color = value > 0 ? [214, 39, 40] : [31, 119, 180];
    pixels.data.set([...color, 255 * Math.abs(value) / largest], 4 * place);
  });
  small.getContext("2d").putImageData(pixels, 0, 0);
  const canvas = $("map");
  canvas.width = 512;
  canvas.height = Math.max(1, Math.round(512 * one.height / one.width));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const [top, left, bottom, right] = one.region;
  const place = [left * canvas.width, top * canvas.height, (right - left) * canvas.width, (bottom - top) * canvas.height];
  context.drawImage(small, ...place);
  if (right - left < 1 || bottom - top < 1) context.strokeRect(...place);
  fade();
}

const fade = () => { $("map").style.opacity = $("strength").value / 100; };

function remember(one) {
  tried.unshift(one);
  for (const old of tried.splice(KEPT)) URL.revokeObjectURL(old.url);
  $("tried").hidden = false;
  $("history").replaceChildren(...tried.map((each) => {
    const picture = element("img");
    picture.src = each.url;
    picture.alt = each.name;
    const button = element("button", picture, `${each.answer.classes[0]}, ${percent(each.answer.scores[0])}`);
    button.onclick = () => {
      asked += 1;
      show(each);
    };
    return element("li", button);
  }));
}

// --- texts ---------------------------------------------------------------------------------------

const percent = (share) => `${(100 * share).toFixed(1)}%`;
const counted = ({ count }) => (count ? `${count.toLocaleString("en")} classes` : "the classes that it was trained on");

function element(tag, ...content) {
  const made = document.createElement(tag);
  if (tag === "span") [made.textContent, made.className] = content;
  else made.append(...content);
  if (tag === "button") made.type = "button";
  return made;
}

const REQUESTS = {
  curl: (url) => `curl -d "{\\"instances\\": [{\\"b64\\": \\"$(base64 < image.jpg | tr -d '\\n')\\"}]}" \\
    '${url}:predict'`,
  Python: (url) => `import base64
import json
import urllib.request

with open("image.jpg", "rb") as file:
    b64 = base64.b64encode(file.read()).decode()
body = json.dumps({"instances": [{"b64": b64}]}).encode()
with urllib.request.urlopen("${url}:predict", body) as response:
    (answer,) = json.load(response)["predictions"]
print(answer["classes"][0], answer["scores"][0])`,
  JavaScript: (url) => `import { readFile } from "node:fs/promises";

const b64 = (await readFile("image.jpg")).toString("base64");
const body = JSON.stringify({ instances: [{ b64 }] });
const response = await fetch("${url}:predict", { method: "POST", body });
const [answer] = (await response.json()).predictions;
console.log(answer.classes[0], answer.scores[0]);`,
};

function showRequest() {
  $("languages").replaceChildren(...Object.keys(REQUESTS).map((name) => {
    const button = element("button", name);
    button.ariaPressed = String(name === language);
    button.onclick = () => {
      language = name;
      showRequest();
      [...$("languages").children].find((each) => each.textContent === name).focus();
    };
    return button;
  }));
  $("request").textContent = REQUESTS[language](model.url.replaceAll("'", "%27"));
  $("copy").textContent = "Copy";
  $("requests").hidden = false;
}

// --- models --------------------------------------------------------------------------------------

function open(name, version) {
  const number = ++opened;
  ready = attempt(async () => {
    model = null;
    $("scope").textContent = "";
    $("requests").hidden = true;
    const found = await describe(name, version);
    if (number !== opened) return;
    model = found;
    const more = found.count - found.classes.length;
    const names = found.classes.join(", ") + (more ? ` and ${more.toLocaleString("en")} more` : "");
    $("scope").textContent = `The network knows ${counted(found)}${names && ": "}${names}. It answers with one of them, whatever the image shows.`;
    $("of-version").hidden = found.versions.length < 2;
    $("versions").replaceChildren(...found.versions.map((each) => new Option(each, each, false, each === found.version)));
    showRequest();
  });
}

function start() {
  const named = parameters.get("models") ?? document.querySelector("meta[name=models]").content;
  const names = named.split(",").filter(Boolean).map((name) => (parameters.has("models") ? name : decodeURIComponent(name)));
  $("models").hidden = !names.length;
  $("model").hidden = $("open").hidden = Boolean(names.length);
  $("models").replaceChildren(...names.map((name) => new Option(name, name)));
  if (names.length) open(names[0]);
  else $("error").textContent = "Enter the name of a model, or name models in the address: ?models=a,b";
  $("error").hidden = Boolean(names.length);
}

const chosen = () => ($("models").hidden ? $("model").value.trim() : $("models").value);

$("choice").onsubmit = (event) => {
  event.preventDefault();
  if (chosen()) open(chosen());
};
$("models").onchange = () => open(chosen());
$("versions").onchange = () => open(chosen(), $("versions").value);
$("strength").oninput = fade;
for (const id of ["file", "camera"]) {
  $(id).onchange = () => {
    if ($(id).files.length) classify($(id).files[0]);
    $(id).value = "";
  };
}
$("copy").onclick = async () => {
  try {
    await navigator.clipboard.writeText($("request").textContent);
    $("copy").textContent = "Copied";
  } catch { // a page that is not served over https may not
    getSelection().selectAllChildren($("request"));
    $("copy").textContent = "Selected: press Ctrl-C";
  }
};
document.ondragover = (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
};
document.ondragleave = () => $("drop").classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  if (event.dataTransfer.files.length) classify(event.dataTransfer.files[0]);
};
document.onpaste = (event) => {
  if (event.clipboardData.files.length) classify(event.clipboardData.files[0]);
};

start();
