// What a page must never have, whatever it shows. Gives a list of faults in words.
() => {
  const faults = [];
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) faults.push(`the page is ${wide} px too wide`);

  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map((part, i) => i === 3 ? part / 255 : part);
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = rgba(getComputedStyle(node).backgroundColor);
      if (colour[3] > 0.9) return colour;
    }
    return [255, 255, 255];
  };
  const shown = (node) => node.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) && !node.closest(".unseen, .skip");
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const seen = new Set();
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || !shown(node) || seen.has(node)) continue;
    seen.add(node);
    const style = getComputedStyle(node), size = parseFloat(style.fontSize);
    if (size === 0) continue;
    const ink = rgba(node instanceof SVGElement ? style.fill : style.color), paper = behind(node);
    const [dark, bright] = [light(ink), light(paper)].sort((a, b) => a - b);
    const contrast = (bright + 0.05) / (dark + 0.05), least = size >= 24 ? 3 : 4.5;
    if (contrast < least) faults.push(`contrast ${contrast.toFixed(2)} of "${text.data.trim().slice(0, 30)}"`);
    const box = node.getBoundingClientRect();
    if (box.right > innerWidth + 1 && !node.closest("pre")) faults.push(`"${text.data.trim().slice(0, 30)}" leaves the page`);
  }

  const named = (node) => (node.getAttribute("aria-label") || node.textContent || node.labels?.[0]?.textContent || "").trim();
  for (const node of document.querySelectorAll("a, button, input, summary, [tabindex='0']")) {
    if (shown(node) && !named(node)) faults.push(`${node.outerHTML.slice(0, 60)} has no name`);
  }
  for (const mark of ["header", "main", "footer", "nav"]) {
    if (document.querySelectorAll(mark).length !== 1) faults.push(`not exactly one ${mark}`);
  }
  if (document.querySelectorAll("h1").length !== 1) faults.push("not exactly one h1");
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) faults.push(`two elements are called ${id}`);
  return faults;
}
