// What did a row of the table measure, and does it reach its target?
// A figure stands beside its target, the machine's own limit measured in the same run, and what other
// software reached; figures of different machines are compared by the ratio, not by themselves.
// How things are measured is in the rows-*.ts; what the targets are is said there too.

export type Target = { readonly atMost: number } | { readonly atLeast: number };

export type Figure = {
  /** What of the row this is: `p50`, `8 callers`. */
  readonly what: string;
  readonly unit: "ms" | "/s" | "MB" | "%";
  readonly target: Target;
  readonly value: number;
  /** More of the same measurement: p50, p99, max, count. */
  readonly detail?: string;
  /** What this machine can do at all, in the same unit, measured just before or after. */
  readonly limit?: { readonly what: string; readonly value: number };
};

export type Row = {
  readonly name: string;
  readonly what: string;
  /** What other software reached on a machine of two cores, 42,000 P-256 signatures/s each. */
  readonly anchor: string;
  /** Measured with the per-uid limits lifted. */
  readonly lifted: boolean;
  measure(): Promise<readonly Figure[]>;
};

/** Percentiles of the samples, which it sorts. */
export function spread(samples: number[]): { p50: number; p99: number; max: number; count: number } {
  if (samples.length === 0) throw new Error("nothing was measured");
  samples.sort((a, b) => a - b);
  const at = (share: number): number => samples[Math.min(samples.length - 1, Math.floor(samples.length * share))] ?? NaN;
  return { p50: at(0.5), p99: at(0.99), max: at(1), count: samples.length };
}

/** The distribution in a few words. */
export function shown(samples: number[]): string {
  const { p50, p99, max, count } = spread(samples);
  return `p50 ${brief(p50)}, p99 ${brief(p99)}, max ${brief(max)} ms, n ${count}`;
}

export function reached({ value, target }: Figure): boolean {
  return "atMost" in target ? value <= target.atMost : value >= target.atLeast;
}

export function brief(value: number): string {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
}

export function asJson(row: Row, figure: Figure): string {
  const { limit } = figure;
  return JSON.stringify({
    name: row.name, row: row.what, ...figure, ratio: limit ? figure.value / limit.value : null, anchor: row.anchor, limitsLifted: row.lifted, pass: reached(figure),
  });
}

/** The row's lines of the table: its name first, then one line a figure. */
export function asText(row: Row, figures: readonly Figure[], seconds: number): string {
  const lines = figures.map((figure) => {
    const { what, unit, target, value, detail, limit } = figure;
    const wanted = "atMost" in target ? `≤ ${brief(target.atMost)}` : `≥ ${brief(target.atLeast)}`;
    const cells = [reached(figure) ? "pass" : "MISS", what.padEnd(30), `${brief(value)} ${unit}`.padStart(14), `target ${wanted} ${unit}`.padEnd(22),
      limit ? `${limit.what} ${brief(limit.value)} ${unit}, ratio ${brief(value / limit.value)}` : "", detail ? `(${detail})` : ""];
    return `    ${cells.filter((cell) => cell !== "").join("  ")}`;
  });
  const notes = [row.anchor === "" ? "" : `others: ${row.anchor}`, row.lifted ? "per-uid limits lifted" : "", `${seconds.toFixed(0)} s`];
  return [`${row.name}: ${row.what}`, ...lines, `    ${notes.filter((note) => note !== "").join("; ")}`].join("\n");
}
