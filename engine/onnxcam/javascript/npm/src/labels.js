// Class names: finding the class that a caller means.
import { OnnxcamError } from "./errors.js";

/** A label's WordNet synset id, or null, and its name: "n01440764 tench" is both. */
export function splitSynset(label) {
  const match = /^(n\d{8})(?:[\s_:,]+(.*))?$/su.exec(label.trim());
  return match ? { synset: match[1], name: match[2] || match[1] } : { synset: null, name: label };
}

/**
 * The index of the class that `text` means: an index in digits, a synset id, the full name, or one
 * of its comma-separated synonyms, in any case, underscores read as spaces.
 *
 * @throws {OnnxcamError} no such class (what is like it is given), or several (all are given).
 */
export function findLabel(labels, text) {
  const wanted = key(text);
  if (/^\d+$/.test(wanted)) return Number(wanted);
  const found = [];
  labels.forEach((label, index) => {
    if (keys(label).includes(wanted)) found.push(index);
  });
  if (found.length === 1) return found[0];
  if (found.length > 1) {
    const several = found.map((index) => `${index} (${splitSynset(labels[index]).name})`);
    throw new OnnxcamError(
      `target '${text}' names several classes: ${several.join(", ")}; give the index`,
    );
  }
  const near = labels.map((label) => splitSynset(label).name);
  const like = near.filter((name) => wanted.length > 2 && key(name).includes(wanted)).slice(0, 5);
  const hint = like.length ? `; nearest are ${like.map((name) => `'${name}'`).join(", ")}` : "";
  throw new OnnxcamError(`target '${text}': no class has this name${hint}`);
}

function keys(label) {
  const { synset, name } = splitSynset(label);
  return [...name.split(","), name, label, synset ?? ""].map(key).filter(Boolean);
}

function key(text) {
  return text.replaceAll("_", " ").split(/\s+/u).filter(Boolean).join(" ").toLowerCase();
}
