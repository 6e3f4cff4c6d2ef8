// Draws the display, the lamps and the plots. Colours come from the style sheet, but for what has a colour of its own.

const LAMPS = [['ready', '60 200 80'], ['activity', '70 130 255'], ['upstream', '240 200 40'], ['error', '240 60 50']];

/** The display's own colours: what is lit, and what is not. */
const LIT = [190, 225, 255, 255], DARK = [4, 9, 14, 255];

/** Makes a function that shows what the board shows, on a canvas of 128 by 64 pixels and a list. */
export function board(canvas, list) {
  const context = canvas.getContext('2d'), pixels = context.createImageData(128, 64);
  const bulbs = LAMPS.map(([name, colour]) => {
    const item = document.createElement('li'), bulb = document.createElement('i');
    bulb.style.setProperty('--colour', colour);
    item.append(bulb, name);
    list.append(item);
    return bulb;
  });
  // Eight rows of 128 bytes, each byte eight pixels high, lowest bit on top.
  // Without a picture only the lamps have changed.
  return ({ frame, lamps, light }) => {
    lamps.forEach((level, at) => bulbs[at].style.setProperty('--level', (level / 255).toFixed(2)));
    if (frame === undefined) return;
    for (let at = 0; at < 1024; at++) {
      const byte = parseInt(frame.slice(at * 2, at * 2 + 2), 16);
      for (let bit = 0; bit < 8; bit++) {
        pixels.data.set(byte >> bit & 1 ? LIT : DARK, (((at >> 7) * 8 + bit) * 128 + (at & 127)) * 4);
      }
    }
    context.putImageData(pixels, 0, 0);
    canvas.classList.toggle('dim', light !== 'bright');
  };
}

const shape = (name, attributes) => {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

/** The next of 1, 2, 5, 10, 20 … that is not below `number`: the top of a scale. */
export function top(number) {
  if (number <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 5, 10].map(step => step * power).find(step => step >= number - 1e-9);
}

/** An area over time in a view of 300 by 100; returns the top of its scale. */
export function area(svg, values) {
  const highest = top(Math.max(0, ...values)), step = 300 / (values.length - 1);
  const points = values.map((value, at) => `${(at * step).toFixed(2)} ${(100 - 96 * value / highest).toFixed(2)}`);
  svg.replaceChildren(
    shape('path', { class: 'grid', d: 'M0 4H300M0 52H300M0 100H300' }),
    shape('path', { class: 'area', d: `M0 100L${points.join('L')}L300 100Z` }),
    shape('path', { class: 'line', d: `M${points.join('L')}` }),
  );
  return highest;
}

/** Bars side by side in a view of 240 by 40; those of nothing are a line on the ground. */
export function bars(svg, values) {
  const highest = Math.max(1, ...values), step = 240 / values.length;
  svg.replaceChildren(...values.map((value, at) => {
    const height = value ? Math.max(2.5, 38 * value / highest) : 1;
    const place = { x: (at * step + step * 0.14).toFixed(2), width: (step * 0.72).toFixed(2), y: (40 - height).toFixed(2) };
    return shape('rect', { class: value ? 'bar' : 'ground', ...place, height: height.toFixed(2), rx: 1 });
  }));
}
