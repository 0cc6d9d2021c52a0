// How long is `15m`?
// Text with units, or a number of seconds, becomes milliseconds; anything else is refused
// by the name of its field, so no typing mistake becomes a long life.
// Which durations are allowed where is left to whoever asks for one.
import { invalid } from "../errors.ts";

/** `90s`, `15m`, `1h30m`, `30d`; or seconds. */
export type Duration = string | number;

const pattern = /^(?:(\d{1,5})d)?(?:(\d{1,7})h)?(?:(\d{1,8})m)?(?:(\d{1,9})s)?$/;

/** Milliseconds. */
export function parseDuration(duration: Duration, field: string): number {
  if (typeof duration === "number" && Number.isFinite(duration) && duration >= 0) return duration * 1_000;
  const match = typeof duration === "string" && duration !== "" ? pattern.exec(duration) : null;
  if (!match) throw invalid([{ field, description: "must be a duration such as 90s, 15m or 1h30m, or seconds" }]);
  const [, days, hours, minutes, seconds] = match;
  return (Number(days ?? 0) * 86_400 + Number(hours ?? 0) * 3_600 + Number(minutes ?? 0) * 60 + Number(seconds ?? 0)) * 1_000;
}
