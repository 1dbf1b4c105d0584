// Colours for the links of this pack, only the widgets of its mode in EMO Face Mask Builder, the video in place of the
// last preview in nodes that are made of others and on the subgraph that it was made in, and the nodes' sentences,
// which pages of late 2026 take away at the end of a run.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const COLOURS = {
  EMO_MODEL: "#b39ddb",
  EMO_REFERENCE: "#4fc3f7",
  EMO_AUDIO: "#ffb74d",
  EMO_FACE_MASK: "#81c784",
  EMO_SPEED: "#e6ee9c",
  EMO_CLIPS: "#f06292",
  EMO_FACES: "#d81b60",
  EMO_MOTION: "#ba68c8",
  EMO_OPTIONS: "#90a4ae",
};
const PREVIEWS = ["$$canvas-image-preview", "$$comfy_animation_preview"];
const TWO_LINES = 58; // pixels that the classic page gives a node's sentence
const EDGES = ["left", "top", "right", "bottom"];

function colour() {
  Object.assign(app.canvas.default_connection_color_byType, COLOURS);
  Object.assign(app.canvas.constructor.link_type_colors, COLOURS);
  app.canvas.setDirty(true, true);
}

function style() {
  // Nodes 2.0 reads the colours of its dots from here
  const sheet = document.createElement("style");
  const rules = Object.entries(COLOURS).map(([type, value]) => `--color-datatype-${type}: ${value};`);
  sheet.textContent = `:root { ${rules.join(" ")} }`;
  document.head.append(sheet);
}

function isLinked(node, name) {
  return node.inputs?.some((input) => input.name === name && input.link != null) ?? false;
}

function showWidgetsOfMode(node) {
  const mode = node.widgets?.find((widget) => widget.name === "mode")?.value;
  const needsEdges = mode === "box" && !isLinked(node, "bounding_box");
  let isChanged = false;
  for (const widget of node.widgets ?? []) {
    const isEdge = EDGES.includes(widget.name);
    if (!isEdge && widget.name !== "from_second") continue;
    const hidden = !(isLinked(node, widget.name) || (isEdge ? needsEdges : isLinked(node, "before")));
    isChanged ||= Boolean(widget.hidden) !== hidden;
    widget.hidden = hidden; // the classic page
    widget.options.hidden = hidden; // Nodes 2.0
  }
  if (!isChanged) return;
  node.widgets = [...node.widgets]; // Nodes 2.0 reads the list again
  node.expandToFitContent?.();
  node.setDirtyCanvas?.(true, true);
}

function keyOf(node) {
  // under which the page keeps outputs and previews of a node
  return node.graph === (app.rootGraph ?? app.graph) ? String(node.id) : `${node.graph.id}:${node.id}`;
}

function tellOfVideo(node) {
  // Where a subgraph shows what a node in it made, Nodes 2.0 asks this, which else only the classic page sets.
  let set;
  Object.defineProperty(node, "previewMediaType", {
    configurable: true,
    get: () => set ?? (node.graph && app.nodeOutputs[keyOf(node)]?.animated?.some(Boolean) ? "video" : undefined),
    set: (value) => (set = value),
  });
}

function nodesAlong(executionId) {
  // "9:4" -> the subgraph 9 of the page and, in it, node 4, each with the page's key of its previews
  const found = [];
  let graph = app.rootGraph ?? app.graph;
  for (const id of executionId.split(":")) {
    const node = graph?.getNodeById(id) ?? graph?.getNodeById(Number(id));
    if (!node) break;
    found.push([node, keyOf(node)]);
    graph = node.subgraph;
  }
  return found;
}

function clearPreviews(node, key) {
  const stores = document.querySelector("#vue-app")?.__vue_app__?.config.globalProperties.$pinia?._s;
  stores?.get("nodeOutput")?.revokePreviewsByLocatorId?.(key);
  delete app.nodePreviewImages?.[key];
  node.imgs = node.preview = undefined;
  for (const widget of node.widgets?.filter(({ name }) => PREVIEWS.includes(name)) ?? []) {
    widget.onRemove?.(); // its element of the page
    node.widgets.splice(node.widgets.indexOf(widget), 1);
  }
  node.setDirtyCanvas?.(true, true);
}

function replacePreviews({ detail }) {
  // The page keeps the last preview where the node that has it did not make the video itself: in a node made of others,
  // beside the video; in a subgraph, in place of the video, which the classic page then shows nowhere.
  const shownBy = String(detail.display_node ?? detail.node);
  const path = nodesAlong(shownBy);
  if (!detail.output?.images || !path.at(-1)?.[0].comfyClass?.startsWith("Emo")) return;
  const isPart = shownBy !== String(detail.node);
  const kept = isPart ? path : path.slice(0, -1);
  const clear = () => kept.forEach(([node, key]) => clearPreviews(node, key));
  clear();
  setTimeout(clear, 1000); // a preview that was still being loaded
  if (!detail.output.animated?.some(Boolean)) return;
  if (window.LiteGraph.vueNodesMode) return;
  for (const [node, key] of path.slice(0, -1)) {
    app.nodeOutputs[key] = detail.output; // Nodes 2.0 does so by itself
    node.setDirtyCanvas?.(true, true);
  }
}

const sentences = new Map(); // execution id -> [node, text] of the present run

function noteSentence({ detail }) {
  const id = String(detail.nodeId);
  const node = nodesAlong(id).at(-1)?.[0];
  if (node?.comfyClass?.startsWith("Emo")) sentences.set(id, [node, detail.text]);
}

function heightAbove(node) {
  // how high a node may be without covering one below it
  const [left, top, right] = [node.pos[0], node.pos[1], node.pos[0] + node.size[0]];
  const below = node.graph._nodes.filter(
    ({ pos, size }) => pos[1] > top && pos[0] < right && pos[0] + size[0] > left,
  );
  return Math.min(...below.map(({ pos }) => pos[1] - 50 - top)); // a title has 30 pixels
}

function showWhole(node, text) {
  // The classic page gives a sentence two lines and lets the rest be scrolled to.
  const widget = node.widgets?.find(({ name }) => name === "$$node-text-preview");
  if (!widget?.options || window.LiteGraph.vueNodesMode) return;
  const perLine = (node.size[0] - 60) / 6.5; // letters of about 6.5 pixels
  const lines = text.split("\n").reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / perLine)), 0);
  widget.options.getMinHeight = () => TWO_LINES;
  const room = heightAbove(node) - node.computeSize()[1] + TWO_LINES;
  const least = Math.max(TWO_LINES, Math.min(26 + 16 * lines, room, 200)); // the page's own limit is 200
  widget.options.getMinHeight = () => least;
  const height = node.computeSize()[1]; // not its width: a video asks for more than it has
  if (node.size[1] < height) node.setSize([node.size[0], height]);
  node.setDirtyCanvas?.(true, true);
  for (const soon of [100, 1000]) setTimeout(() => breakBetweenWords(text), soon); // once it is drawn
}

function breakBetweenWords(text) {
  const letters = (shown) => shown.replace(/\s/g, "");
  for (const line of document.querySelectorAll(".break-all")) // so the page breaks lines, within words
    if (letters(line.textContent) === letters(text)) line.style.wordBreak = "normal";
}

function repeatSentences() {
  for (const [nodeId, [node, text]] of sentences) {
    if (nodesAlong(nodeId).at(-1)?.[0] !== node) continue; // another workflow is open now
    api.dispatchEvent(new CustomEvent("progress_text", { detail: { nodeId, text } }));
    showWhole(node, text);
  }
}

app.registerExtension({
  name: "EMO",
  setup() {
    api.addEventListener("executed", replacePreviews);
    api.addEventListener("progress_text", noteSentence);
    api.addEventListener("execution_start", () => sentences.clear());
    for (const end of ["execution_success", "execution_error", "execution_interrupted"])
      api.addEventListener(end, () => setTimeout(repeatSentences, 500)); // the page takes them away after the event
    style();
    colour();
    app.ui.settings.addEventListener("Comfy.ColorPalette.change", () => setTimeout(colour, 500));
  },
  afterConfigureGraph: colour,
  nodeCreated(node) {
    if (node.comfyClass?.startsWith("Emo")) tellOfVideo(node);
    if (node.comfyClass !== "EmoFaceMaskBuilder") return;
    const mode = node.widgets?.find((widget) => widget.name === "mode");
    if (!mode) return;
    for (const [owner, event] of [
      [mode, "callback"],
      [node, "onConnectionsChange"],
      [node, "onConfigure"],
    ]) {
      const before = owner[event];
      owner[event] = function (...given) {
        const result = before?.apply(this, given);
        showWidgetsOfMode(node);
        return result;
      };
    }
    showWidgetsOfMode(node);
  },
});
