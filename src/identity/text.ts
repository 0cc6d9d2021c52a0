// What is in a text that nobody sees?
// Controls, direction changes, fillers, tags and what is no character at all hide from whoever reads a log or says yes
// to a purpose. Three of them have work to do in honest text, and may stand where they do it: joiners between letters
// beyond ASCII (Persian, Indic scripts) and between emoji, and the selector that makes a symbol an emoji.
// Unicode Standard Annex 44 (properties), 31 section 2.3 (joiners); Technical Standard 51 (emoji). Threat T19.
// Which texts there are, and how long they may be, is said where they are read.

const hidden = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\p{Noncharacter_Code_Point}\u2800\ufffd]/u;
const joiner = String.raw`(?<=[\p{L}\p{M}\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f])(?<![A-Za-z])[\u200c\u200d](?=[\p{L}\p{M}\p{Extended_Pictographic}])(?![A-Za-z])`;
const selector = String.raw`(?<=\p{Extended_Pictographic})\ufe0f|(?<=[0-9#*])\ufe0f(?=\u20e3)`;
const inPlace = new RegExp(`${joiner}|${selector}`, "gu");
const either = new RegExp(`(${inPlace.source})|${hidden.source}`, "gu");

export function hasHidden(text: string): boolean {
  return hidden.test(text) && hidden.test(text.replace(inPlace, ""));
}

/** Nothing in it can be seen. */
export function isBlank(text: string): boolean {
  return !/[^\p{Z}\p{M}\p{C}\p{Default_Ignorable_Code_Point}\u2800]/u.test(text);
}

/** The text with what is hidden made visible. */
export function unhidden(text: string, show: (char: string) => string): string {
  return text.replace(either, (char: string, isInPlace: string | undefined) => (isInPlace === undefined ? show(char) : char));
}
