// What no view may have: overflow, too little contrast, controls without a name, broken structure.
// Returns a list of faults.
() => {
  const faults = [];
  const overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (overflow > 0) faults.push(`the page is ${overflow} px too wide`);

  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const pixel = [...canvas.getImageData(0, 0, 1, 1).data];
    return pixel.map((channel, i) => i === 3 ? channel / 255 : channel);
  };
  // Relative luminance of WCAG 2.
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((channel) => {
      channel /= 255;
      return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = (node) => {
    for (; node; node = node.parentElement) {
      const colour = rgba(getComputedStyle(node).backgroundColor);
      if (colour[3] > 0.9) return colour;
    }
    return [255, 255, 255];
  };
  const isVisible = (node) =>
    node.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })
    && !node.closest(".visually-hidden, .skip");

  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const visited = new Set();
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || !isVisible(node) || visited.has(node)) continue;
    visited.add(node);
    const style = getComputedStyle(node), size = parseFloat(style.fontSize);
    if (size === 0) continue;
    const excerpt = text.data.trim().slice(0, 30);
    const colour = rgba(node instanceof SVGElement ? style.fill : style.color);
    const [dark, bright] =
      [luminance(colour), luminance(background(node))].sort((a, b) => a - b);
    const contrast = (bright + 0.05) / (dark + 0.05), minimum = size >= 24 ? 3 : 4.5;
    if (contrast < minimum) faults.push(`contrast ${contrast.toFixed(2)} of "${excerpt}"`);
    const box = node.getBoundingClientRect();
    if (box.right > innerWidth + 1 && !node.closest("pre")) {
      faults.push(`"${excerpt}" leaves the page`);
    }
  }

  const name = (node) => {
    const text = node.getAttribute("aria-label") || node.textContent;
    return (text || node.labels?.[0]?.textContent || "").trim();
  };
  for (const node of document.querySelectorAll("a, button, input, summary, [tabindex='0']")) {
    if (isVisible(node) && !name(node)) faults.push(`${node.outerHTML.slice(0, 60)} has no name`);
  }
  for (const tag of ["header", "main", "footer", "nav", "h1"]) {
    if (document.querySelectorAll(tag).length !== 1) faults.push(`not exactly one ${tag}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  for (const id of new Set(ids)) {
    if (ids.filter((other) => other === id).length > 1) faults.push(`two elements have the id ${id}`);
  }
  return faults;
}
