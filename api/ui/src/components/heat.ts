/**
 * Heat maps: small grids of bytes, 0..255 for -log10 P of 0..6, drawn over a picture. Ordinary places stay clear; from
 * amber over orange to magenta, lightness and hue change together, so that every kind of colour vision tells them apart.
 */

const FROM = 56; // -log10 P of 1.3: what one frame in twenty has somewhere
const STOPS: readonly [number, number, number, number, number][] = [
  [FROM, 255, 214, 92, 0],
  [96, 255, 190, 60, 120],
  [150, 250, 120, 40, 175],
  [205, 226, 42, 104, 205],
  [255, 168, 20, 160, 225],
];

const LUT = new Uint8ClampedArray(256 * 4);
for (let value = FROM; value < 256; value += 1) {
  const next = Math.max(1, STOPS.findIndex((stop) => stop[0] >= value));
  const [a, b] = [STOPS[next - 1], STOPS[next]];
  if (!a || !b) continue;
  const share = (value - a[0]) / (b[0] - a[0]);
  for (let part = 0; part < 4; part += 1) {
    const [x = 0, y = 0] = [a[part + 1], b[part + 1]];
    LUT[value * 4 + part] = x + (y - x) * share;
  }
}

/** Paints a grid, one pixel a cell, onto a canvas that is then scaled over the picture. */
export class HeatMap {
  readonly canvas = document.createElement("canvas");
  private image: ImageData | null = null;

  fill(grid: Uint8Array | Uint8ClampedArray, columns: number, rows: number, stride = 1): void {
    const context = this.canvas.getContext("2d");
    if (!context) return;
    if (this.image?.width !== columns || this.image.height !== rows) {
      this.canvas.width = columns;
      this.canvas.height = rows;
      this.image = context.createImageData(columns, rows);
    }
    const { data } = this.image;
    for (let cell = 0; cell < columns * rows; cell += 1) {
      const at = (grid[cell * stride] ?? 0) * 4;
      data[cell * 4] = LUT[at] ?? 0;
      data[cell * 4 + 1] = LUT[at + 1] ?? 0;
      data[cell * 4 + 2] = LUT[at + 2] ?? 0;
      data[cell * 4 + 3] = LUT[at + 3] ?? 0;
    }
    context.putImageData(this.image, 0, 0);
  }
}
