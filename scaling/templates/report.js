"use strict";
// Values near the pointer, figures on the whole screen, sortable tables, training curves, everything unfolded on paper.
(() => {
  const tip = document.body.appendChild(Object.assign(document.createElement("div"), { className: "tip", hidden: true }));
  const NEAR = 14; // units of the figure

  const place = (svg, event) => {
    const point = new DOMPoint(event.clientX, event.clientY);
    return point.matrixTransform(svg.getScreenCTM().inverse());
  };

  // On a narrow screen panels that stand side by side become pictures one below the other: the same drawing, cut.
  const stacked = (svg) => {
    const parts = [...svg.querySelectorAll("[id^=figure_] > g")].filter((part) => /^(axes|legend)_/.test(part.id));
    const boxes = parts.map((part) => part.getBBox());
    const beside = boxes.some((one) => boxes.some((other) => other.x > one.x + one.width / 2));
    if (innerWidth > 640 || !beside) return [svg];
    const pictures = boxes.map((box, kept) => {
      const picture = svg.cloneNode(true);
      const drawn = [...picture.querySelectorAll("[id^=figure_] > g")].filter((part) => /^(axes|legend)_/.test(part.id));
      drawn.forEach((part, n) => { if (n !== kept) part.remove(); });
      picture.setAttribute("viewBox", `${box.x - 3} ${box.y - 3} ${box.width + 6} ${box.height + 6}`);
      picture.removeAttribute("height");
      return picture;
    });
    svg.replaceWith(...pictures.filter((_, n) => boxes[n].width > 0));
    return pictures;
  };

  const watch = (figure, svg, points) => {
    svg.addEventListener("pointermove", (event) => {
      const at = place(svg, event);
      let best = null, least = NEAR;
      for (const point of points) {
        const away = Math.hypot(point[0] - at.x, point[1] - at.y);
        if (away < least) [best, least] = [point, away];
      }
      tip.hidden = best === null;
      if (best) {
        tip.textContent = best[2];
        tip.style.left = `${Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8)}px`;
        tip.style.top = `${event.clientY + 14}px`;
      }
    });
    svg.addEventListener("pointerleave", () => { tip.hidden = true; });
    svg.addEventListener("click", () => { tip.hidden = true; figure.classList.toggle("large"); });
  };
  for (const figure of document.querySelectorAll("figure[data-hover]")) {
    const points = JSON.parse(figure.dataset.hover);
    stacked(figure.querySelector("svg")).forEach((svg) => watch(figure, svg, points));
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") document.querySelectorAll("figure.large").forEach((one) => one.classList.remove("large"));
  });

  const UNITS = { k: 1e3, M: 1e6, B: 1e9, T: 1e12 };
  const value = (cell) => {
    const text = cell.textContent.replace("−", "-").trim();
    const number = text.match(/^[-+]?[0-9.]+(?:e[-+]?[0-9]+)?/);
    if (!number) return text;
    return Number(number[0]) * (UNITS[text[number[0].length]] || 1);
  };
  const order = (a, b) => (typeof a === typeof b ? (a > b) - (a < b) : typeof a === "number" ? -1 : 1);

  for (const table of document.querySelectorAll("table.sortable")) {
    table.querySelectorAll("th").forEach((head, column) => head.addEventListener("click", () => {
      const body = table.tBodies[0];
      const up = head.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const keyed = [...body.rows].filter((row) => !row.classList.contains("curve"))
        .map((row) => [value(row.cells[column]), row]);
      keyed.sort((a, b) => (up ? 1 : -1) * order(a[0], b[0]));
      body.querySelectorAll("tr.curve").forEach((row) => row.remove());
      body.append(...keyed.map((pair) => pair[1]));
    }));
  }

  const curves = JSON.parse(document.getElementById("curves").textContent);
  const drawn = ([tokens, losses]) => {
    const [width, height, left, bottom] = [460, 150, 40, 22];
    const logs = tokens.map((t) => Math.log(Math.max(t, 1)));
    const [x0, x1] = [logs[0], logs[logs.length - 1]];
    const [y0, y1] = [Math.min(...losses), Math.max(...losses)];
    const x = (v) => left + (width - left - 10) * (v - x0) / (x1 - x0 || 1);
    const y = (v) => 8 + (height - bottom - 8) * (y1 - v) / (y1 - y0 || 1);
    const path = logs.map((v, i) => `${i ? "L" : "M"}${x(v).toFixed(1)},${y(losses[i]).toFixed(1)}`).join("");
    const label = (v, text, at, anchor) => `<text x="${v}" y="${at}" text-anchor="${anchor}">${text}</text>`;
    return `<svg viewBox="0 0 ${width} ${height}" class="small"><path d="${path}"/>`
      + label(left - 4, y1.toFixed(2), 14, "end") + label(left - 4, y0.toFixed(2), height - bottom, "end")
      + label(left, `${tokens[0].toLocaleString()} tokens`, height - 5, "start")
      + label(width - 10, tokens[tokens.length - 1].toLocaleString(), height - 5, "end") + "</svg>";
  };
  for (const row of document.querySelectorAll("#runs-table tbody tr")) {
    const id = row.cells[0].textContent;
    if (!curves[id]) continue;
    row.classList.add("has-curve");
    row.addEventListener("click", () => {
      const next = row.nextElementSibling;
      if (next && next.classList.contains("curve")) { next.remove(); return; }
      const extra = row.parentNode.insertBefore(document.createElement("tr"), next);
      extra.className = "curve";
      const cell = extra.appendChild(document.createElement("td"));
      cell.colSpan = row.cells.length;
      cell.innerHTML = `training loss against tokens (log) ${drawn(curves[id])}`;
    });
  }

  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => { folded.forEach((one) => { one.open = false; }); });
})();
