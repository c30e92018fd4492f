// From files to pixels.

const MOST_PIXELS = 16e6; // what every browser's canvas holds
const [SMALLEST_SHOWN, LARGEST_SHOWN] = [480, 1600];

/**
 * Read a picture file as it looks in a viewer: upright, its colours as they are in the file.
 *
 * @returns {Promise<{picture: ImageData, shown: ImageData}>} the picture, and one of a good size
 *   for the screen (the same if it has that).
 */
export async function decode(blob, name) {
  if (blob.size === 0) throw new Error(`${name} is empty (0 bytes)`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {
      imageOrientation: "from-image",
      colorSpaceConversion: "none",
    });
  } catch {
    throw new Error(`${name} is not a picture that this browser can read`);
  }
  const { width, height } = bitmap;
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
  const picture = pixelsOf(bitmap, Math.round(width * scale), Math.round(height * scale));
  const shown = shownOf(bitmap, picture);
  bitmap.close();
  return { picture, shown };
}

/** Large pictures smaller; tiny ones larger, so that the heatmap over them is smooth. */
function shownOf(bitmap, picture) {
  const longest = Math.max(picture.width, picture.height);
  let scale = 1;
  if (longest > LARGEST_SHOWN) scale = LARGEST_SHOWN / longest;
  if (longest < SMALLEST_SHOWN) scale = Math.ceil(SMALLEST_SHOWN / longest);
  if (scale === 1) return picture;
  const [width, height] = [picture.width, picture.height].map((side) => Math.round(side * scale));
  return pixelsOf(bitmap, Math.max(width, 1), Math.max(height, 1));
}

/** A drawable's pixels at a size. */
export function pixelsOf(drawable, width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(drawable, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/** The first picture among what was dropped or pasted, or undefined. */
export function fileIn(transfer) {
  const files = Array.from(transfer?.files ?? []);
  return files.find(({ type }) => type.startsWith("image/")) ?? files[0];
}
